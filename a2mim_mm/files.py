"""Files that are there whole or not at all."""

import json
from pathlib import Path


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'.{path.name}.part')
    draft.write_text(json.dumps(content, indent=2) + '\n')
    draft.replace(path)
