"""`python -m fer_hf` is `fer-hf`, so that `accelerate launch -m fer_hf ...` works."""

from fer_hf.cli import main

if __name__ == "__main__":
    main()
