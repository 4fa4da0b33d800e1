"""Label selectors. Source: apimachinery meta/v1 LabelSelector."""

from collections.abc import Mapping

from kproxy.ingress.api.meta import LabelSelector, LabelSelectorRequirement


def selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Tell whether labels are selected. No selector selects nothing, an empty one everything."""
    if selector is None:
        return False
    wanted = selector.match_labels or {}
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        _fulfils(requirement, labels) for requirement in selector.match_expressions or ()
    )


def is_sound(selector: LabelSelector | None) -> bool:
    """Tell whether a selector can be followed: all operators are known, and have values where they need some."""
    for requirement in (selector.match_expressions or ()) if selector else ():
        with_values = requirement.operator in ("In", "NotIn")
        if not (with_values or requirement.operator in ("Exists", "DoesNotExist")):
            return False
        if bool(requirement.values) is not with_values:
            return False
    return True


def _fulfils(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in (requirement.values or ())
        case "NotIn":
            return value not in (requirement.values or ())
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False
