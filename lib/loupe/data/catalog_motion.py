"""Catalog entries: points on the Earth, trajectories and series."""

from loupe.data.records import DataFile, DataSet, PublicForm

_EARTH_RAW = (
    "https://raw.githubusercontent.com/louaaron/Scaling-Riemannian-Diffusion"
    "/51cd13eb04e112764cff788e456394548f377104/earth_science/data_raw"
)
_WALK_RAW = "https://raw.githubusercontent.com/KseniiaCheloshkina/amc/cc0ee085ee2396b92de5e47d5b59954ba8c57f5d/data/35"
_WALKS = (1, 2, 5, *range(7, 17), *range(28, 35))
_SKTIME = DataFile(
    "spd_timeseries/sktime-1.2.0-py3-none-any.whl",
    "sha256:dbffc6731d2d683b668dceb5e2bbc5804bebc8446b4c580803a281684d90e4ae",
    8_201_107,
    (
        "https://files.pythonhosted.org/packages/eb/67/98c89e7a17691ca473b7cc7200f74e43e47ad61680db59bfe791f341b056"
        "/sktime-1.2.0-py3-none-any.whl",
    ),
)
_OURS_ONLY = "Our file comes through LOUPE_DATA or LOUPE_DATA_URL."

POINTS = (
    DataSet(
        name="earth",
        title="Volcanic eruptions, earthquakes, floods and fires on the globe",
        kind="points",
        reader="points:earth",
        files=tuple(
            DataFile(f"earth/{event}.csv", f"sha256:{digest}", size, (f"{_EARTH_RAW}/{event}.csv",))
            for event, size, digest in (
                ("volc", 11_177, "dad8f1a8332182ba7c90e442e9659acfee4ca9d0a45b37c0f75417f079e2f9d8"),
                ("quakes", 89_744, "dea199ef57e01ea38376338093329682640507dcd52cc40b41c68ace2ba0b5a6"),
                ("flood", 79_321, "2103d2af3427af648d2b3de00d85d2e867b6af92dcafa2092e6209eac6d1e801"),
                ("fire", 178_859, "eca3b30b52d26f60c892c81283bea4d29ba1d85bca8a23c195f210ef634e28f1"),
            )
        ),
        licence="NOAA and NASA: public domain; Dartmouth Flood Observatory (G. R. Brakenridge): public for "
        "research, no explicit licence",
        citation="E. Mathieu, M. Nickel: Riemannian continuous normalizing flows, 2020; NOAA NCEI; NASA "
        "FIRMS; "
        "G. R. Brakenridge: Global active archive of large flood events",
        homepage="https://github.com/louaaron/Scaling-Riemannian-Diffusion",
        source_note="The public addresses serve the same bytes. Rows repeat (560 of 827 eruptions, 673 "
        "earthquakes): "
        "report how many test rows also stand in the training part.",
        used_by=("riemannian_diffusion",),
        in_box=True,
    ),
)


def _molecule(name, digest, size, note):
    """One trajectory of GFN2-xTB molecular dynamics."""
    return DataSet(
        name,
        f"Molecular dynamics of {name} (GFN2-xTB, 500 K)",
        "trajectories",
        "trajectories:molecule",
        "generated for Loupe; free of third-party rights",
        "C. Bannwarth, S. Ehlert, S. Grimme: GFN2-xTB, J. Chem. Theory Comput. 15, 2019; G. Bussi et al., "
        "2007",
        "https://github.com/tblite/tblite",
        f"{note} Recipe: RDKit geometry (randomSeed 7, MMFF), relaxed at GFN2-xTB (fmax 0.01 eV/A); "
        f"velocity Verlet with "
        "ASE's Bussi thermostat, 500 K, taut 100 fs, step 0.5 fs, 1 ps of equilibration, then every fifth "
        "step. "
        f"Not MD17. {_OURS_ONLY}",
        ("egno", "geotdm"),
        (DataFile(f"md/{name}_xtb.npz", digest, size),),
        in_box=True,
    )


_CMU = {
    "licence": "free to use, modify and redistribute; raw data may not be resold; credit the database",
    "citation": "CMU Graphics Lab Motion Capture Database, mocap.cs.cmu.edu (NSF EIA-0196217)",
    "homepage": "http://mocap.cs.cmu.edu",
    "kind": "trajectories",
    "used_by": ("egno",),
    "in_box": True,
}

MOTION = (
    _molecule(
        "ethanol",
        "sha256:a099e58bedfdab6cfb4ce135366c93da8c0a3672667902bf51509fa144e856a6",
        1_655_464,
        "8,000 frames of 2.5 fs; velocity seed 1.",
    ),
    _molecule(
        "aspirin",
        "sha256:85ba9de164fc7aa753ba57e2e32e7170b74375191c459204e9821934f04f04a4",
        1_960_608,
        "4,107 frames of 2.5 fs; velocity seed 2.",
    ),
    _molecule(
        "malonaldehyde",
        "sha256:ec6162ea0aaf3bc91f46d50ed62454c651630a54262f939603c9b2e28ee146cf",
        554_620,
        "2,667 frames of 2.5 fs; velocity seed 3.",
    ),
    DataSet(
        name="cmu09_run",
        title="Motion capture of running: CMU subject 9, 11 cases with the official split",
        reader="trajectories:motion",
        files=(
            DataFile(
                "mocap/cmu09_run.npz",
                "sha256:b023d1b235d7731cd323bd477d0c030c8b9ff7d158d38d50f015de5a2c01bf50",
                529_917,
            ),
            DataFile(
                "mocap/cmu09_run_split.npz",
                "sha256:beec01a0780099a60e29f2d5ce0b8b14e83d287b921436f57c09885dcfb3cdca",
                4_492,
            ),
        ),
        source_note="From the motion files of github.com/MinkaiXu/EGNO at commit "
        f"9ee4bf580ffb24b65eccd364a342b42df10df67b, published as pickles, which Loupe does not open. "
        f"{_OURS_ONLY}",
        **_CMU,
    ),
    DataSet(
        name="cmu35_walk",
        title="Motion capture of walking: CMU subject 35, 20 trials",
        reader="trajectories:motion",
        files=(
            DataFile(
                "mocap/cmu35_walk.npz",
                "sha256:17a615870361cbb95bfecc9508081a20ea0260151ed5f6f71d4771a241b131a1",
                2_646_246,
            ),
        ),
        public=PublicForm(
            files=(
                DataFile("mocap/35.asf", urls=(f"{_WALK_RAW}/35.asf",)),
                *(DataFile(f"mocap/35_{k:02d}.amc", urls=(f"{_WALK_RAW}/35_{k:02d}.amc",)) for k in _WALKS),
            ),
            output="mocap/cmu35_walk_public.npz",
            converter="motion_capture",
        ),
        source_note="Joint positions by forward kinematics from 35.asf and the amc files of "
        "github.com/KseniiaCheloshkina/amc; trials 03, 04 and 06 of the papers' 23 walks are missing. 120 "
        "frames per "
        "second, y is up, lengths in the files' units. No digests of the originals are known; their "
        "address holds the "
        "commit.",
        **_CMU,
    ),
    DataSet(
        name="eth_ucy",
        title="ETH-UCY pedestrian trajectories, eight scenes",
        kind="trajectories",
        reader="trajectories:pedestrians",
        files=(
            DataFile(
                "eth_ucy/eth_ucy.npz",
                "sha256:260c1c2519a9300f523ca59746bf8dd21b11174aca4e192a316e14f09f41432a",
                690_557,
            ),
        ),
        public=PublicForm(
            files=(),
            output="eth_ucy/eth_ucy_public.npz",
            converter="eth_ucy",
            by_hand="clone github.com/abduallahmohamed/Social-STGCNN at commit "
            "333d3a57b4d2705e129b21aefefa09c79b2b9ae1, and give its folder datasets",
        ),
        licence="public for research, no explicit licence (repository: MIT)",
        citation="S. Pellegrini et al.: You'll never walk alone, ICCV 2009; A. Lerner et al.: Crowds by "
        "example, 2007",
        homepage="https://github.com/abduallahmohamed/Social-STGCNN",
        source_note="From the text files of that repository; float32 rounding differs by less than 5e-7 m. "
        "The public "
        "files are many and small: clone the repository and use loupe.data.adopt.",
        used_by=("geotdm",),
        in_box=True,
    ),
)


def _series(name, folder, title, digest, size, licence, citation):
    """One set of multivariate series."""
    return DataSet(
        name,
        title,
        "series",
        "series:series",
        licence,
        citation,
        "https://www.timeseriesclassification.com",
        f"From the .ts text files in sktime 1.2.0 (sktime/datasets/data/{folder}, BSD-3-Clause), which is "
        f"also the "
        "public form; the split is the archive's own.",
        ("riemannian_resnet",),
        (DataFile(f"spd_timeseries/{name}.npz", digest, size),),
        PublicForm((_SKTIME,), f"spd_timeseries/{name}_public.npz", name),
        in_box=True,
    )


SERIES = (
    _series(
        "japanesevowels",
        "JapaneseVowels",
        "Japanese vowels: 12 cepstrum coefficients of nine speakers",
        "sha256:9b37f200aabb99bb4f5fc60fd3cb2414dfdaf0d0fe1dd5ed4e3072f980551d82",
        438_918,
        "CC BY 4.0 (UCI)",
        "M. Kudo, J. Toyama, M. Shimbo: Multidimensional curve classification using passing-through "
        "regions, 1999",
    ),
    _series(
        "basicmotions",
        "BasicMotions",
        "Basic motions: accelerometer and gyroscope of a smart watch",
        "sha256:30873eef9cd10f6559e329a95218b85302d4a6c5260fab969b384634ed99502d",
        140_086,
        "public for research (UEA archive); redistributed in sktime (BSD-3-Clause)",
        "A. Bagnall et al.: The UEA multivariate time series classification archive, 2018",
    ),
)
