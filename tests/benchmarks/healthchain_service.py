"""The peer: a card service as healthchain 0.16.1 has it, in a virtual environment of its own."""

from healthchain.gateway import CDSHooksService, HealthChainAPI
from healthchain.models.requests.cdsrequest import CDSRequest
from healthchain.models.responses.cdsresponse import CDSResponse

service = CDSHooksService()


@service.hook("patient-view", id="patient-view")
def patient_view(_: CDSRequest) -> CDSResponse:
    card = {
        "summary": "AI triage, 20 Nov 2026: FLAGGED. Abnormal chest radiograph above threshold.",
        "indicator": "warning",
        "source": {"label": "AI triage"},
        "detail": "The model reads one frontal chest radiograph. " * 8,
    }
    return CDSResponse(cards=[card])


app = HealthChainAPI()
app.register_service(service)
