from typing import Any

ffi: Any
SINCE: dict[str, str]
