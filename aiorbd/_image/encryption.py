"""Encryption of an image by librbd, in the formats LUKS1 and LUKS2."""

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from aiorbd._core.operation import Job
from aiorbd._core.resource import Topic
from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import bridge_ffi, ffi, rbd
from aiorbd._native.marshal import invalid, number, readable
from aiorbd.enums import EncryptionAlgorithm, EncryptionFormat
from aiorbd.errors import ImageNotEncrypted, ImageTooSmall, OperationNotSupported, Target, WrongPassphrase

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: The first bytes of an encrypted image: a mark and the version of the format.
_MARK: Final = b"LUKS\xba\xbe"

#: The mark of an encrypted clone of an encrypted image.
_CLONE_MARK: Final = b"RBDL\xba\xbe"


class Passphrase:
    """A copy of a passphrase for C. `wipe` overwrites the copy."""

    def __init__(self, data: "ReadableBuffer", operation: str, on: Target) -> None:
        view = readable(data, "passphrase", operation, on)
        self.size: int = len(view)
        if not self.size:
            raise invalid("the passphrase must not be empty", operation, on)
        self.memory: Any = ffi.new("char[]", self.size)
        ffi.memmove(self.memory, bridge_ffi.buffer(view), self.size)

    def __repr__(self) -> str:
        return "<a passphrase>"

    def give_to(self, options: Any) -> None:
        """Store the address and the size in one of librbd's structs."""
        options.passphrase, options.passphrase_size = self.memory, self.size

    def wipe(self) -> None:
        """Overwrite the copy with zeroes."""
        ffi.buffer(self.memory, self.size)[:] = bytes(self.size)


class Encryption(Topic[ImageHandle]):
    """The encryption of an open image: `Image.encryption`.

    `format` makes an image encrypted. `load` lets this open image read and write the decrypted data, until it closes.
    Offsets and the image size then leave out the header of the encryption. The library wipes its own copies of
    passphrases. librbd keeps the key while the image is open. A `SharedConnection` gives an image with loaded
    encryption to no further task.
    """

    async def format(
        self,
        encryption_format: EncryptionFormat,
        passphrase: "ReadableBuffer",
        algorithm: EncryptionAlgorithm = EncryptionAlgorithm.AES256,
    ) -> None:
        """Encrypt the image with a new key, and load the encryption. Data that was written to the image is lost.

        A clone still reads the data of its parent, which may have another passphrase. So a clone is formatted only.
        Reads, writes and `Image.size` then raise `OperationNotSupported` until `load` or `load_chain` is called. If the
        call is cancelled, the outcome is unknown.

        Args:
            encryption_format: ``LUKS1`` or ``LUKS2``.
            passphrase: The passphrase that opens the image, as bytes or another buffer.
            algorithm: The cipher.

        Raises:
            ImageTooSmall: The image has no room for the header and data.
            InvalidArgument: The format or the cipher is unknown, or the passphrase is empty.
            ReadOnlyImage: The image is open for reading only.
            OperationNotSupported: Encryption is loaded already, the image is a clone and librbd is older than 18.2, or
                librbd was built without encryption.

        Implements: rbd_encryption_format
        """
        function: Final = "rbd_encryption_format"
        handle, on = self._handle, self._handle.target
        kind = _format(encryption_format, function, on)
        if kind is EncryptionFormat.LUKS:
            raise invalid("an image is formatted as LUKS1 or LUKS2", function, on)
        cipher = EncryptionAlgorithm(number(algorithm, "algorithm", function, on, bits=1))
        options = ffi.new(f"rbd_encryption_{kind.name.lower()}_format_options_t *")
        options.alg = int(cipher)

        def call(secrets: Sequence[Passphrase]) -> None:
            secrets[0].give_to(options)
            self._raise(rbd().rbd_encryption_format(handle.pointer, kind, options, ffi.sizeof(options[0])), function)

        await self._run(function, call, [passphrase])

    async def load(self, passphrase: "ReadableBuffer", encryption_format: EncryptionFormat | None = None) -> None:
        """Load the encryption, so that reads and writes of this open image see the decrypted data.

        The image size and all offsets then leave out the header. If the call is cancelled, the outcome is unknown.

        Args:
            passphrase: The passphrase, as bytes or another buffer.
            encryption_format: The format that the image must have. None takes the format from the image's header.

        Raises:
            WrongPassphrase: The passphrase does not open the image.
            ImageNotEncrypted: The image has no header of that format.
            InvalidArgument: The passphrase is empty, or librbd does not support the format or the header. From 18.2 on,
                the data must begin at a multiple of the object size.
            OperationNotSupported: Encryption is loaded already, or librbd was built without encryption.

        Implements: rbd_encryption_load
        """
        function: Final = "rbd_encryption_load"
        handle, on = self._handle, self._handle.target
        kind = None if encryption_format is None else _format(encryption_format, function, on)

        def call(secrets: Sequence[Passphrase]) -> None:
            found = self._found(function)
            if kind not in (None, EncryptionFormat.LUKS, found):
                raise ImageNotEncrypted(errno.EINVAL, f"the image has the format {found.name}", function, str(on))
            options = ffi.new("rbd_encryption_luks1_format_options_t *")  # both formats have the same options
            secrets[0].give_to(options)
            code = rbd().rbd_encryption_load(handle.pointer, found, options, ffi.sizeof(options[0]))
            self._raise(code, function)

        await self._run(function, call, [passphrase])

    async def load_chain(self, passphrases: "Sequence[ReadableBuffer]") -> None:
        """Load the encryption of a clone, whose parents have passphrases of their own.

        If the call is cancelled, the outcome is unknown.

        Args:
            passphrases: The passphrase of the image, then of its parent, and so on. The last one serves for all further
                ancestors.

        Raises:
            WrongPassphrase: A passphrase does not open its image.
            ImageNotEncrypted: The image is not encrypted.
            InvalidArgument: There are more passphrases than encrypted images, or one is empty.
            OperationNotSupported: Encryption is loaded already.
            LibraryTooOldError: librbd is older than 18.2.

        Implements: rbd_encryption_load2
        """
        function: Final = "rbd_encryption_load2"
        handle, on = self._handle, self._handle.target
        if not passphrases or isinstance(passphrases, bytes | bytearray | memoryview | str):
            raise invalid("load_chain() takes a list of one passphrase or more", function, on)

        def call(secrets: Sequence[Passphrase]) -> None:
            load = rbd().rbd_encryption_load2
            self._found(function)
            specs = ffi.new("rbd_encryption_spec_t[]", len(secrets))
            options = [ffi.new("rbd_encryption_luks_format_options_t *") for _ in secrets]
            for spec, option, secret in zip(specs, options, secrets, strict=True):
                secret.give_to(option)
                spec.format, spec.opts = EncryptionFormat.LUKS, ffi.cast("void *", option)
                spec.opts_size = ffi.sizeof(option[0])
            self._raise(load(handle.pointer, specs, len(options)), function)

        await self._run(function, call, passphrases)

    @property
    def loaded(self) -> bool:
        """Whether this open image reads and writes decrypted data."""
        return self._handle.encrypted

    def _found(self, function: str) -> EncryptionFormat:
        """Return the format that the image has. Runs on a worker thread."""
        handle = self._handle
        head = ffi.new("char[]", 8)
        code = rbd().rbd_read(handle.pointer, 0, 8, head)
        if code != -errno.EINVAL:  # the answer for an empty image
            handle.raise_for(code, "rbd_read")
        data = bytes(ffi.buffer(head, 8))
        version = int.from_bytes(data[6:8], "big")
        if code == 8 and data[:6] in (_MARK, _CLONE_MARK) and version in (1, 2):
            return EncryptionFormat.LUKS1 if version == 1 else EncryptionFormat.LUKS2
        raise ImageNotEncrypted(errno.EINVAL, "the image has no header of LUKS", function, str(handle.target))

    def _raise(self, code: int, function: str) -> None:
        """Raise for the result of a C function. Runs on a worker thread."""
        on = str(self._handle.target)
        if code < 0:
            self._handle.require_place(function)  # a deleted pool also gives EPERM
        if code == -errno.EPERM and function != "rbd_encryption_format":
            raise WrongPassphrase(errno.EPERM, "the passphrase does not open the image", function, on)
        if code == -errno.ENOSPC:
            raise ImageTooSmall(errno.ENOSPC, "the image has no room for the encryption's header", function, on)
        self._handle.raise_on_thread(code, function)

    async def _run(
        self, function: str, call: Callable[[Sequence[Passphrase]], None], passphrases: "Sequence[ReadableBuffer]"
    ) -> None:
        """Call a C function that changes the view of the image. Wipe the copies of the passphrases at its end."""
        handle = self._handle
        secrets: list[Passphrase] = []

        def wipe() -> None:
            for secret in secrets:
                secret.wipe()

        def make(leave: Callable[[], None] | None) -> Job[None]:
            def ended() -> None:
                wipe()
                if handle.native is not None:
                    handle.lib.aiorbd_image_changed(handle.native)
                if leave is not None:
                    leave()

            def change() -> None:
                if handle.encrypted:
                    message = "encryption is loaded already"
                    raise OperationNotSupported(errno.EOPNOTSUPP, message, function, str(handle.target))
                before = _size(handle)
                call(secrets)
                handle.header = max(0, before - _size(handle))
                # Without a header in the size, librbd has formatted a clone, and has not loaded the encryption.
                handle.must_load = function == "rbd_encryption_format" and not handle.header
                handle.encrypted = not handle.must_load

            return Job(handle, function, change, ended=ended)

        try:
            for passphrase in passphrases:
                secrets.append(Passphrase(passphrase, function, handle.target))  # noqa: PERF401 - an error keeps them
            job = await handle.start_with(function, make)
        except BaseException:
            wipe()
            raise
        await handle.bridge.call(job)
        if not handle.must_load:
            await handle.image_size.refresh()


def _size(handle: ImageHandle) -> int:
    """Return the size that librbd reports. Runs on a worker thread."""
    out = ffi.new("uint64_t *")
    handle.raise_for(rbd().rbd_get_size(handle.pointer, out), "rbd_get_size")
    return int(out[0])


def _format(value: EncryptionFormat, function: str, on: Target) -> EncryptionFormat:
    wanted = number(value, "encryption format", function, on, bits=31)
    try:
        return EncryptionFormat(wanted)
    except ValueError:
        raise invalid(f"no such encryption format: {wanted}", function, on) from None
