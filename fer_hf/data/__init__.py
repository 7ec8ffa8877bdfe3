"""Faces: sources of labelled images (FER2013, folders, the Hub, drawings), and their splits."""

from fer_hf.data.faces import Faces, load_faces

__all__ = ["Faces", "load_faces"]
