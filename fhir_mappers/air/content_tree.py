"""The content tree of a structured report (DICOM PS3.3 C.17.3)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from fhir_mappers.air.access import DEEPEST, MOST_ITEMS, Code, code, items, text, texts


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A content item (DICOM PS3.3 C.17.3); ``path`` counts from 1, as the root does."""

    item: Dataset
    path: str
    parent: "Node | None"
    children: list["Node"] = field(default_factory=list)

    @property
    def value_type(self) -> str:
        """Value Type (0040,A040)."""
        return text(self.item, "ValueType")

    @property
    def name(self) -> Code:
        """Concept Name Code Sequence (0040,A043)."""
        return code(self.item, "ConceptNameCodeSequence")

    @property
    def value(self) -> Code:
        """Concept Code Sequence (0040,A168)."""
        return code(self.item, "ConceptCodeSequence")

    @property
    def by_reference(self) -> bool:
        """Whether it points to another content item and has no content of its own."""
        return bool(texts(self.item, "ReferencedContentItemIdentifier"))

    def is_named(self, *values: str) -> bool:
        """Whether its concept name is one of these codes of DCM."""
        return self.name.is_dcm(*values)

    def named(self, *values: str) -> Iterator["Node"]:
        """Give the children whose concept name is one of these codes of DCM."""
        return (each for each in self.children if each.is_named(*values))

    def below(self) -> Iterator["Node"]:
        """Give every content item below this one."""
        waiting = list(reversed(self.children))
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


def content_tree(root: Dataset) -> Iterator[Node]:
    """Give every content item, root first, as deep and as many as are looked into."""
    waiting = [Node(root, "1", None)]
    for _ in range(MOST_ITEMS):
        if not waiting:
            return
        node = waiting.pop()
        yield node
        if node.path.count(".") < DEEPEST:
            inner = items(node.item, "ContentSequence")
            node.children.extend(
                Node(each, f"{node.path}.{number}", node) for number, each in enumerate(inner, 1)
            )
            waiting.extend(reversed(node.children))
