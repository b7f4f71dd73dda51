"""The one failure of the runner that a person can do something about."""

import errno


class CannotStart(Exception):
    """What is missing (a port, the disk, the network, a program) and what to do, in one sentence for a
    person."""


def explain(error: OSError, doing: str) -> CannotStart:
    """`error`, met while `doing`, as a sentence with what to do next."""
    elsewhere = "choose another place with --home or QALQAN_HOME"
    what = {
        errno.ENOSPC: "the disk is full: free some space and start again",
        errno.EDQUOT: "your disk quota is used up: free some space and start again",
        errno.EROFS: f"the file system is read-only: {elsewhere}",
        errno.EACCES: f"permission is denied: {elsewhere}",
        errno.EPERM: f"permission is denied: {elsewhere}",
        errno.EEXIST: f"a file stands where a folder should be: {elsewhere}",
        errno.ENOTDIR: f"a file stands where a folder should be: {elsewhere}",
        errno.EADDRINUSE: "the port is in use: start again to get another one",
        errno.ENOMEM: "the memory is full: stop other programs and start again",
        errno.EMFILE: "too many files are open: raise the limit (ulimit -n) and start again",
    }.get(error.errno or 0, error.strerror or str(error))
    where = f" ({error.filename})" if error.filename and str(error.filename) not in doing else ""
    return CannotStart(f"While {doing}{where}, {what}.")


DISK_FULL = "the disk is full"

_SIGNS = {
    "Address already in use": ("its port was taken meanwhile", "start again to get another"),
    "No space left on device": (DISK_FULL, "free some space and start again"),
    "Cannot allocate memory": ("the memory is full", "stop other programs and start again"),
    "OutOfMemoryError": ("the memory is full", "stop other programs and start again"),
}


def known_cause(output: str) -> str | None:
    """Why a program ended, where its output shows that it was something a person can do something about."""
    return next((cause for sign, (cause, _) in _SIGNS.items() if sign in output), None)


def last_words(output: str) -> str:
    """What a program's output means for a person, where we know it, else its last line."""
    for sign, (cause, advice) in _SIGNS.items():
        if sign in output:
            return f"{cause}; {advice}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f'its last words were "{lines[-1][:300]}"' if lines else "it said nothing"
