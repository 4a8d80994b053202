"""Points on the globe: where volcanoes erupted, the ground shook, rivers flooded and forests burned."""

from dataclasses import dataclass

import numpy as np

EVENTS = {"volc": "volcanic eruptions", "quakes": "earthquakes", "flood": "floods", "fire": "active fires"}


@dataclass(frozen=True, eq=False)
class Points:
    """Events on the sphere.

    Attributes
    ----------
    event : str
        What happened there.
    latitude, longitude : numpy.ndarray
        float64 ``(n,)`` in degrees, north and east positive.
    xyz : numpy.ndarray
        float64 ``(n, 3)``, unit vectors ``(cos lat cos lon, cos lat sin lon, sin lat)``.
    """

    event: str
    latitude: np.ndarray
    longitude: np.ndarray
    xyz: np.ndarray


def unit_vectors(latitude, longitude):
    """Unit vectors of points on the globe.

    Parameters
    ----------
    latitude, longitude : numpy.ndarray
        ``(n,)`` in degrees.

    Returns
    -------
    numpy.ndarray
        float64 ``(n, 3)``.
    """
    lat, lon = np.deg2rad(latitude), np.deg2rad(longitude)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def earth(source):
    """The four catalogues, ``{"volc": Points, "quakes": Points, "flood": Points, "fire": Points}``."""
    found = {}
    for key, event in EVENTS.items():
        latitude, longitude = np.loadtxt(
            source.path(f"{key}.csv"), delimiter=",", unpack=True, dtype=np.float64
        )
        found[key] = Points(event, latitude, longitude, unit_vectors(latitude, longitude))
    return found
