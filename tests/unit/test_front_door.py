"""What `import stepstream` gives."""

import ast
from pathlib import Path

import stepstream

FRONT = Path(__file__).parent.parent.parent / "stepstream" / "__init__.py"


def test_every_name_is_found_where_type_checkers_are_told_it_is() -> None:
    lines = next(node for node in ast.parse(FRONT.read_text()).body if isinstance(node, ast.If)).body
    told = {alias.name: node.module for node in lines if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == stepstream._MODULE_OF
    assert sorted(told) == stepstream.__all__
    for name in stepstream.__all__:
        assert getattr(stepstream, name) is not None
    assert set(stepstream.__all__) <= set(dir(stepstream))
