"""The use cases: one async function each, named verb_noun; no SQL, no HTTP."""
