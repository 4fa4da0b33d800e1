"""What the objects of the ingress program have in common: metadata, references and conditions.

Everything is frozen, and has the defaults that the API server itself would fill in. Source: apimachinery meta/v1.
"""

import msgspec

from kproxy.api.types import ApiStruct, Meta

ANNOTATION_INGRESS_CLASS = "kubernetes.io/ingress.class"
ANNOTATION_DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"


class Annotations(ApiStruct, frozen=True, gc=False):
    """The two annotations that mean something; all others are dropped while decoding."""

    ingress_class: str | None = msgspec.field(default=None, name=ANNOTATION_INGRESS_CLASS)
    default_class: str | None = msgspec.field(default=None, name=ANNOTATION_DEFAULT_CLASS)


class RoutedMeta(Meta, frozen=True, gc=False):
    """What is used of the metadata of objects that say where requests go."""

    generation: int = 0
    """Counts the changes of the object's spec; 0 in a manifest."""
    creation_timestamp: str | None = None
    """RFC 3339, to the second, in UTC; comparing it as text compares the times."""
    annotations: Annotations | None = None

    @property
    def age_key(self) -> tuple[str, str, str]:
        """What sorts objects oldest first, by namespace and name where they are of one second.

        One without a time, as in manifests, is younger than any other.
        """
        return self.creation_timestamp or "9999", self.namespace, self.name


class OwnerReference(ApiStruct, frozen=True, gc=False):
    """An object that this one belongs to, and will be deleted with."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""


class LabelledMeta(Meta, frozen=True, gc=False):
    """What is used of the metadata of objects that are selected by labels."""

    labels: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] | None = None


class Condition(ApiStruct, frozen=True, gc=False, omit_defaults=False):
    """meta/v1 Condition."""

    type: str = ""
    status: str = ""
    """``True``, ``False`` or ``Unknown``."""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""
    """RFC 3339."""


class LabelSelectorRequirement(ApiStruct, frozen=True, gc=False):
    """One of ``matchExpressions``."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] | None = None


class LabelSelector(ApiStruct, frozen=True, gc=False):
    """meta/v1 LabelSelector: all its parts have to match, and without any everything does."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[LabelSelectorRequirement, ...] | None = None
