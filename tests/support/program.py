"""`rcnn serve` with a FakeDetector: the real process, socket, signals and logs, without torch."""

import argparse
import signal
import sys

from app.server import serve
from app.settings.settings import Settings
from tests.support.fakes import Dying, FakeDetector


def main() -> int:
    """Serve with the settings of the environment; the exit code is the program's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.0, help="that a batch takes")
    parser.add_argument("--decode-seconds", type=float, default=0.0, help="that decoding an image takes")
    parser.add_argument("--unloadable", action="store_true", help="the model cannot be loaded")
    parser.add_argument("--real", action="store_true", help="the model of the settings, with torch")
    parser.add_argument("--dying", action="store_true", help="every device fails from its first batch on")
    parser.add_argument("--loading", action="store_true", help="the model is not loaded before SIGUSR1")
    arguments = parser.parse_args()
    if arguments.real:
        return serve(Settings())
    seconds, decode_seconds = arguments.seconds, arguments.decode_seconds
    detector = FakeDetector(seconds=seconds, decode_seconds=decode_seconds)
    if arguments.dying:
        detector = Dying(seconds=seconds, decode_seconds=decode_seconds, all_die=True)
    if arguments.unloadable:
        detector.load_error = ValueError("no such card")
    if arguments.loading:
        detector.warm.clear()
        signal.signal(signal.SIGUSR1, lambda *_: detector.warm.set())
    return serve(Settings(), detector)


if __name__ == "__main__":
    sys.exit(main())
