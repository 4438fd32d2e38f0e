"""Commands to the daemons of a cluster, as the ``ceph`` tool sends them."""

import json
from collections.abc import Mapping
from typing import Any

from aiorbd._core.handle import Handle
from aiorbd._core.resource import Resource
from aiorbd._native.loader import ffi, rados
from aiorbd._native.marshal import encode_text, number, take_buffer
from aiorbd.error_codes import error_for
from aiorbd.errors import Target
from aiorbd.models import CommandResult

#: A command: JSON text, or a mapping that is converted to JSON.
Command = str | Mapping[str, Any]


class ClusterCommands(Resource[Handle]):
    """Commands to daemons. Part of `Cluster`."""

    async def mon_command(self, command: Command, inbuf: bytes = b"") -> CommandResult:
        """Send a command to the monitors. If the call is cancelled, the outcome is unknown.

        Args:
            command: JSON text, or a mapping that is converted to JSON, like
                ``{"prefix": "osd pool ls", "format": "json"}``.
            inbuf: Data to send with the command.

        Raises:
            RbdError: The monitors refused the command. The message comes from the monitors.

        Implements: rados_mon_command
        """
        return await self._command("rados_mon_command", "monitor", (), command, inbuf)

    async def osd_command(self, osd_id: int, command: Command, inbuf: bytes = b"") -> CommandResult:
        """Send a command to an OSD. If the call is cancelled, the outcome is unknown.

        Args:
            osd_id: The id of the OSD.
            command: JSON text, or a mapping that is converted to JSON.
            inbuf: Data to send with the command.

        Raises:
            RbdError: The OSD refused the command, or no OSD has this id.

        Implements: rados_osd_command
        """
        osd_id = number(osd_id, "OSD id", "rados_osd_command", self._handle.target, bits=31)
        return await self._command("rados_osd_command", f"OSD {osd_id}", (osd_id,), command, inbuf)

    async def mgr_command(self, command: Command, inbuf: bytes = b"") -> CommandResult:
        """Send a command to the active manager. If the call is cancelled, the outcome is unknown.

        The call waits until the cluster has an active manager.

        Args:
            command: JSON text, or a mapping that is converted to JSON.
            inbuf: Data to send with the command.

        Raises:
            RbdError: The manager refused the command. The message comes from the manager.

        Implements: rados_mgr_command
        """
        return await self._command("rados_mgr_command", "manager", (), command, inbuf)

    async def _command(
        self, function: str, whom: str, first: tuple[Any, ...], command: Command, inbuf: bytes
    ) -> CommandResult:
        handle = self._handle
        text = command if isinstance(command, str) else json.dumps(command)
        on = Target("other", f"{whom} command {_prefix(text)!r}")
        encoded = encode_text(text, "command", function)
        c_function = getattr(rados(), function)

        def call() -> CommandResult:
            line = ffi.new("char[]", encoded)
            lines = ffi.new("const char *[]", [line])
            output, output_length = ffi.new("char **"), ffi.new("size_t *")
            status, status_length = ffi.new("char **"), ffi.new("size_t *")
            results = output, output_length, status, status_length
            code = c_function(handle.pointer, *first, lines, 1, inbuf, len(inbuf), *results)
            free = rados().rados_buffer_free
            data = take_buffer(output, output_length, free)
            message = take_buffer(status, status_length, free).decode(errors="replace")
            if code < 0:
                raise error_for(code, function, on, message or None)
            return CommandResult(data, message)

        # A daemon that does not answer delays no command to other daemons. The monitors share the connection's group.
        return await handle.run(function, call, on=on, group=None if whom == "monitor" else whom)


def _prefix(command: str) -> str:
    """Return the name of a command, for errors. The arguments of a command may be secret."""
    try:
        return str(json.loads(command).get("prefix", "?"))
    except (ValueError, AttributeError):
        return "?"
