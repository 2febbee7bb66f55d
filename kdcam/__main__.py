"""`python -m kdcam`: the console script's entry point, also under torchrun."""

from importlib.metadata import entry_points

if __name__ == "__main__":
    (script,) = entry_points(group="console_scripts", name="kdcam")
    script.load()()
