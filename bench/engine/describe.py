"""What a record says of a method, known without importing it (and so without torch)."""

from __future__ import annotations

from methods.grammar import from_record
from results.schema import MethodInfo, RunSpec


def method_info(spec: RunSpec) -> MethodInfo:
    """Text, source hash and labels of the spec's method, without importing it."""
    text = from_record(spec.method, spec.options)
    ours = "; ".join(dict.fromkeys(str(p.info.facts["ours"]) for p in text.parts if p.info.facts.get("ours")))
    origin = {p.name: f"{p.info.folder} {p.info.source_hash[:12]}" for p in text.parts if p.info.folder}
    return MethodInfo(text.text(), text.source_hash, ours, adapts_of(spec), origin)


def adapts_of(spec: RunSpec) -> str:
    """How the method's weights move on test images: "", "episodic", "online"."""
    return next((str(v) for k, v in spec.options if k.endswith(".tta") and v != "none"), "")
