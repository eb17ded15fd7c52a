"""
Importing one plugin, in a thread of its own, under a name of its own.

Every load gets a private root package whose path is the plugin's folder:

    _trunkline_plugin_7              a package without a file; its path is the folder
    _trunkline_plugin_7.weather      the plugin, a file or a package
    _trunkline_plugin_7._shared      code beside it, for `from . import _shared`

So a plugin clashes neither with what is installed nor with a file of the same name in another
folder, a changed plugin is imported anew with all its parts, and forgetting a load is forgetting
one prefix. Bytecode caches are not used: they take an edit within the same second for no edit.

What is imported lies in the plugin's folder for certain: a link that leads out of it is not
followed, since whoever can write where it leads could run code here.

An import may hang or burn time. It runs in a daemon thread, which a deadline leaves behind. And it
may print: in a plugin, `print` writes to stderr, because stdout belongs to the protocol.
"""

import asyncio
import ctypes
import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import count
from pathlib import Path
from traceback import extract_tb
from types import CodeType, ModuleType
from typing import Any, Final, TypeVar

from trunkline.errors import PluginError, PluginImportFailed
from trunkline.plugin.discovery import Source, digest, digest_file
from trunkline.plugin.server import PLUGIN_ERRORS, describe_exit

T = TypeVar("T")

PREFIX: Final = "_trunkline_plugin_"

INTERRUPT_INTERVAL: Final = 0.05
"""Seconds until it is looked again whether a thread that nobody waits for can be interrupted."""

INTERRUPT_TRIES: Final = 200
_numbers = count(1)


@dataclass(eq=False)
class Load:
    """One import of one source."""

    source: Source
    root: str = field(default_factory=lambda: f"{PREFIX}{next(_numbers)}")
    offered: Any = None
    """The module; for an entry point, whatever it names."""

    files: dict[Path, str] = field(default_factory=dict[Path, str])
    """Every file that was read for it, and the digest of what stood there."""

    def run(self) -> None:
        """
        Import it. Blocks for as long as the import does.

        Raises `PluginImportFailed`, which says what to do about it.
        """
        try:
            self.offered = _import(self)
        except PLUGIN_ERRORS as error:
            raise PluginImportFailed(_explain(self.source, self.root, error)) from error

    def check_inside(self, path: Path) -> None:
        """Refuse a file that is not in the plugin's folder but behind a link. Reads the disk."""
        assert self.source.path is not None, "nothing of an entry point is loaded from a folder"
        if not path.resolve().is_relative_to(self.source.path.parent.resolve()):
            raise PluginError(
                f"{path.name} is a link to a place outside of the plugin folder. Copy the file "
                "there, or name the folder it is in with --plugins"
            )

    def is_stale(self) -> bool:
        """Whether a file that was read is another one now. Reads the disk."""
        return any(digest_file(path) != seen for path, seen in list(self.files.items()))

    def forget(self) -> None:
        """Take its modules out of `sys.modules`. What still runs keeps what it holds."""
        _finder.loads.pop(self.root, None)
        for name in [name for name in list(sys.modules) if name.partition(".")[0] == self.root]:
            sys.modules.pop(name, None)


class _FreshLoader(SourceFileLoader):
    """Compiles a file as it stands, notes what it has read, and diverts `print`."""

    def __init__(self, fullname: str, path: str, load: Load) -> None:
        super().__init__(fullname, path)
        self._load = load

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        self._load.files[Path(self.path)] = digest(source)
        return self.source_to_code(source, self.path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["print"] = _print_to_stderr
        super().exec_module(module)


class _PluginFinder(MetaPathFinder):
    """Finds the modules of every load that is not forgotten."""

    def __init__(self) -> None:
        self.loads: dict[str, Load] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        load = self.loads.get(fullname.partition(".")[0])
        if load is None:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.origin is not None:
            load.check_inside(Path(spec.origin))
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec
        loader = _FreshLoader(fullname, spec.loader.path, load)
        return spec_from_file_location(
            fullname,
            spec.loader.path,
            loader=loader,
            submodule_search_locations=spec.submodule_search_locations,
        )


_finder = _PluginFinder()


def _print_to_stderr(*values: object, file: Any = None, **options: Any) -> None:
    print(*values, file=sys.stderr if file is None else file, **options)


def _import(load: Load) -> Any:
    source = load.source
    if source.entry_point is not None:
        return source.entry_point.load()
    assert source.path is not None
    if "." in source.name:
        raise PluginError("its name has a dot in it, which Python cannot import. Rename it")
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.loads[load.root] = load
    root = ModuleType(load.root)
    root.__path__ = [str(source.path.parent)]
    sys.modules[load.root] = root
    importlib.invalidate_caches()
    return importlib.import_module(f"{load.root}.{source.name}")


def _explain(source: Source, root: str, error: BaseException) -> str:
    """The sentence for a failed import: what is wrong, where, and what to do."""
    what = f"The plugin {source.name!r} ({source.origin}) cannot be imported"
    match error:
        case PluginError():
            return f"{what}: {str(error).rstrip('.')}{_where(source, error)}."
        case SystemExit() | KeyboardInterrupt():
            return f"{what}: it calls {describe_exit(error)}. Importing a plugin must do nothing."
        case SyntaxError() if error.lineno:
            return f"{what}: {error.msg} in line {error.lineno} of {error.filename}."
        case ModuleNotFoundError() if error.name and error.name.startswith(f"{root}."):
            missing = error.name.removeprefix(f"{root}.").replace(".", "/")
            return f"{what}: there is no module {missing!r} beside it.{_where(source, error)}"
        case ModuleNotFoundError() if error.name:
            package = error.name.partition(".")[0]
            if source.path is not None and _is_beside(source.path, package):
                return (
                    f"{what}: plugin folders are not on the import path. Write "
                    f"`from . import {package}`, and let a shared file's name begin with `_`."
                )
            return (
                f"{what}: it needs the module {error.name!r}, which is not installed. Install the "
                f"package that has it, usually: {sys.executable} -m pip install {package}"
            )
        case _:
            return f"{what}: {type(error).__name__}: {error}{_where(source, error)}"


def _is_beside(path: Path, module: str) -> bool:
    folder = path.parent if path.is_file() else path
    return (folder / f"{module}.py").exists() or (folder / module).is_dir()


def _where(source: Source, error: BaseException) -> str:
    """The last line of the plugin's own code on the way to the error."""
    if source.path is None:
        return ""
    own = [
        frame
        for frame in extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(source.path.parent)
    ]
    return f" (line {own[-1].lineno} of {Path(own[-1].filename).name})" if own else ""


def in_own_thread(name: str, work: Callable[[], T], own: Path | None = None) -> asyncio.Future[T]:
    """
    Run *work* in a daemon thread; the future has its result, or what it raised.

    Cancelling the future interrupts the thread when it runs code of the file or folder *own*, and
    nothing else: a library that is torn out of its work can leave a lock behind, and the one around
    imports would stop the whole process. Otherwise the thread is left behind: nothing waits for it
    any more, not even the end of the process.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(deliver: Callable[[Any], None], outcome: Any) -> None:
        if not done.done():
            deliver(outcome)

    def run() -> None:
        try:
            outcome, deliver = work(), done.set_result
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            outcome, deliver = error, done.set_exception
        try:
            loop.call_soon_threadsafe(settle, deliver, outcome)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def interrupt(tries: int) -> None:
        if own is None or thread.ident is None or not thread.is_alive():
            return
        if _runs_code_of(own, thread.ident):
            _raise_exit(thread.ident)
        elif tries > 1:
            loop.call_later(INTERRUPT_INTERVAL, interrupt, tries - 1)

    thread = threading.Thread(target=run, name=f"plugin {name}", daemon=True)
    thread.start()
    done.add_done_callback(lambda done: interrupt(INTERRUPT_TRIES) if done.cancelled() else None)
    return done


def _runs_code_of(own: Path, thread: int) -> bool:
    """Whether the innermost Python function of a thread is written in that file or folder."""
    frames = sys._current_frames()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    frame = frames.get(thread)
    return frame is not None and Path(frame.f_code.co_filename).is_relative_to(own)


def _raise_exit(thread: int) -> None:
    """Raise `SystemExit` in a thread that computes without end: it would slow down all others."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))
