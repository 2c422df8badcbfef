"""The command line: `python -m autoencoders lecture | train | encode | reconstruct | features | figures | info`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
