"""Fine-tune, evaluate, compress and publish facial-expression models with the Hugging Face stack."""

__version__ = "0.1.0"
