"""How people are named on the EHR's pages."""

from mock_ehr.records import Resource


def display_name(resource: Resource) -> str:
    """Give family and given names of a Patient or Practitioner."""
    name: Resource = next(iter(resource.get("name", [])), {})
    given = " ".join(name.get("given", []))
    parts = [part for part in (name.get("family", ""), given) if part]
    return ", ".join(parts) or str(resource["id"])


def birth_date(resource: Resource) -> str:
    """Give the date of birth, or say that it is not known."""
    return str(resource.get("birthDate", "date unknown"))


def identifiers(resource: Resource) -> list[str]:
    """Give the values of the identifiers."""
    return [str(each["value"]) for each in resource.get("identifier", []) if each.get("value")]
