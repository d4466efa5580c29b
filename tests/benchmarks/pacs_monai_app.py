"""An application of the MONAI Deploy App SDK as its documentation builds them: DICOM in, SR out.

Loader, series selector, a model that answers at once, text SR writer. Run by the Python of the
peer's environment: ``python pacs_monai_app.py -i FOLDER -o FOLDER``. The SDK's package of operators
imports MONAI and torch for its other operators; here only the modules that are used are imported,
so the peer does not wait for them.
"""

# ruff: noqa: E402 - the package has to be there first

import sys
import types
from pathlib import Path

import monai.deploy

operators = types.ModuleType("monai.deploy.operators")
operators.__path__ = [str(Path(monai.deploy.__path__[0]) / "operators")]
sys.modules[operators.__name__] = operators

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Operator, OperatorSpec
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_text_sr_writer_operator import DICOMTextSRWriterOperator
from monai.deploy.operators.dicom_utils import ModelInfo

SELECTED = "study_selected_series_list"


class StandInModel(Operator):
    """Says the same of every series."""

    def setup(self, spec: OperatorSpec) -> None:
        spec.input(SELECTED)
        spec.output("text")

    def compute(self, op_input, op_output, context) -> None:  # noqa: ANN001, ARG002 - the SDK's own
        op_input.receive(SELECTED)
        op_output.emit("No finding detected by the model.", "text")


class StandInApp(Application):
    """From a folder of DICOM files to a folder with one SR."""

    def compose(self) -> None:
        context = Application.init_app_context(self.argv)
        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="loader"
        )
        selector = DICOMSeriesSelectorOperator(self, name="selector")
        model = StandInModel(self, name="model")
        writer = DICOMTextSRWriterOperator(
            self,
            output_folder=Path(context.output_path),
            model_info=ModelInfo("Benchmark", "Stand-in", "1", "1.2.826.0.1.3680043.8.498.699"),
            name="writer",
        )
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, model, {(SELECTED, SELECTED)})
        self.add_flow(selector, writer, {(SELECTED, SELECTED)})
        self.add_flow(model, writer, {("text", "text")})


if __name__ == "__main__":
    StandInApp().run()
