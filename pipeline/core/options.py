"""What a user may set of the science and the storage, with defaults and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeline.core.schema import SECTORS

MEMORY_RESOURCE = "memory"
"""Name of the resource that workers declare and units of work draw on, bytes."""


@dataclass(frozen=True)
class TransportOptions:
    """How source-receptor matrices are built (`pipeline.transport.footprint`).

    Parameters
    ----------
    ages : edges of the age slices, hours; one trajectory position each.
    classes : edges of the age classes kept apart in the matrix (a subset of `ages`), so that the lifetime can change
        without transport being computed again.
    coarsen : side of the source blocks of each class in cells; old air has been spread wider than a cell anyway.
    diffusion : K, m2 s-1.
    wind_error : sigma_u, m s-1; the unknown part of the wind displaces air by sigma_u s after s seconds.
    lifetime : hours; weights the slices within a class.
    margin : cells around the domain whose emissions and columns are solved too, then dropped.
    """

    ages: tuple[float, ...] = (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9, 10, 12, 14)
    classes: tuple[float, ...] = (0, 1.5, 4, 14)
    coarsen: tuple[int, ...] = (1, 1, 2)
    diffusion: float = 5e3
    wind_error: float = 0.7
    lifetime: float = 4.0
    margin: int = 12


@dataclass(frozen=True)
class PriorOptions:
    """What is believed before the satellites look (`pipeline.invert.prior`). Sigmas are of natural logarithms.

    Parameters
    ----------
    tonnes_per_person : CO2 by sector and person, t a year, where no total is given: China about 2020, energy-related
        and process CO2 of about 11 Gt for 1.41 G people, sector shares as inventories broadly agree on.
    sigma_nation, sigma_sector, sigma_province, sigma_province_sector : spread of yearly totals before
        `prior_totals.csv` is taken in; the first applies without totals and is wide.
    total_persistence : share of the variance of yearly totals' errors that different years have in common (a stated
        guess: what is wrong with a total is mostly wrong every year).
    sigma_month : spread of a sector's month in a province around its season; sigma_month_nation that of the whole
        country by sector in an ordinary month, with correlation `month_together` between all but residential, and
        with the tails of Student's t of `month_freedom` degrees, since some months are unlike any other.
    sigma_cell : spread of a cell within its province by source class: the sectors as placed, then industry that no
        listed plant explains.
    correlation : length of the cells' correlation for spread-out sources, km (0.5 and 50 km in Chinese NOx work).
    floor_share : share of power and of industry given to a floor of each under every land cell, without which no
        unknown plant could ever appear.
    sigma_floor : spread of the floors.
    point_share : share of a sector that known point sources carry where there are any.
    """

    tonnes_per_person: tuple[float, ...] = (3.3, 3.3, 0.62, 0.55)
    sigma_nation: float = 0.15
    sigma_sector: float = 0.10
    sigma_province: float = 0.25
    sigma_province_sector: float = 0.25
    sigma_month: float = 0.12
    total_persistence: float = 0.8
    sigma_month_nation: tuple[float, ...] = (0.10, 0.12, 0.20, 0.10)
    month_together: float = 0.7
    month_freedom: float = 4.0
    sigma_cell: tuple[float, ...] = (0.5, 0.8, 1.0, 0.6, 2.0)
    correlation: float = 50.0
    floor_share: float = 0.06
    sigma_floor: float = 2.2
    point_share: tuple[float, ...] = (1.0, 0.7, 0.0, 0.0)

    def __post_init__(self) -> None:
        n = len(SECTORS)
        for name, count in {
            "tonnes_per_person": n,
            "sigma_month_nation": n,
            "sigma_cell": n + 1,
            "point_share": n,
        }.items():
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} values, expected {count}")


@dataclass(frozen=True)
class InversionOptions:
    """How columns are turned into emissions (`pipeline.invert`). Sigmas are of natural logarithms unless said.

    Parameters
    ----------
    nox_ratio : r_s, kg NO2-equivalent of NOx per tonne of CO2 by sector; order of China's inventories about 2019.
    daytime : emission in the hours before the overpass over the monthly mean, by sector (European and Chinese
        temporal profiles, +-10 %).
    sigma_ratio_nation, sigma_ratio_province : spread of ln r_s, persistent over months.
    sigma_gain : spread of the logarithm of what a retrieval shows of the NO2 that is there, one number for all of a run
        (a stated guess: retrievals are known to read low over polluted land, by an amount that differs by version).
    sigma_lifetime : spread of ln tau by training group and month (prior mean in `TransportOptions.lifetime`).
    soil_flux : NOx from soils in July, kg NO2-equivalent m-2 s-1 (about 5 ng N m-2 s-1 on cropland), following the
        season of temperature; `sigma_soil` its spread by group.
    foreign_floor : NOx of ships and of foreign land no light is known of, kg NO2-equivalent m-2 s-1.
    sigma_foreign, sigma_foreign_cell : spread of what is emitted outside the regions, together and by cell.
    background, sigma_background, sigma_background_local : free-tropospheric NO2 column, its spread, and that of its
        deviation every 4 degrees, mol m-2.
    level_error_province, level_error_nation : error of the ln NOx of a province and month, and of the whole country in
        a month, that the columns' own errors do not explain (wind, mixing, chemistry).
    level_error_place : lasting error of a province's ln NOx (chemistry and mixing of its own).
    sigma_season : spread of each of the two waves (cosine and sine of the year) in the error of the whole country's
        ln NOx: lifetime and mixing are wrong by season.
    xco2 : whether XCO2 takes part, through contrasts along its tracks (`pipeline.invert.tracks`).
    xco2_error_floor : ppm; added to what a retrieval states of a cell.
    xco2_track_error : ppm, of retrievals together along a track; xco2_wind_error : of the modelled signal, relative;
        xco2_inflation : factor on the variances of bins (with 1.5 factors of groups missed by twice what they state).
    model_error : error of a modelled column relative to the signal usual at its place (wind, chemistry, detail).
    error_floor : error of a column that the retrieval does not state, mol m-2.
    error_inflation : factor on variances because neighbouring columns err together.
    members : draws of the posterior.
    iterations : Gauss-Newton steps at most.
    sample_share : share of the observations (reweighted) that the members' covariance is built from.
    leaves : solve a reduced state of about so many leaves of a quadtree (`pipeline.invert.reduce`) instead of every
        cell; 0: every cell. For quick looks: 4000 for all of China.
    """

    nox_ratio: tuple[float, ...] = (1.0, 2.0, 10.0, 1.3)
    daytime: tuple[float, ...] = (1.05, 1.10, 1.25, 1.00)
    sigma_ratio_nation: float = 0.15
    sigma_ratio_province: float = 0.15
    sigma_gain: float = 0.2
    sigma_lifetime: float = 0.35
    soil_flux: float = 1.5e-11
    sigma_soil: float = 0.7
    foreign_floor: float = 3e-12
    sigma_foreign: float = 0.5
    sigma_foreign_cell: float = 0.8
    background: float = 5e-6
    sigma_background: float = 5e-6
    sigma_background_local: float = 2e-6
    level_error_province: float = 0.10
    level_error_nation: float = 0.05
    level_error_place: float = 0.10
    sigma_season: float = 0.10
    xco2: bool = True
    xco2_error_floor: float = 0.3
    xco2_track_error: float = 0.4
    xco2_wind_error: float = 0.5
    xco2_inflation: float = 4.0
    model_error: float = 0.3
    error_floor: float = 4e-6
    error_inflation: float = 3.0
    members: int = 50
    iterations: int = 15
    sample_share: float = 0.2
    leaves: int = 0

    def __post_init__(self) -> None:
        for name in ("nox_ratio", "daytime"):
            if len(getattr(self, name)) != len(SECTORS):
                raise ValueError(f"{name} needs one value for each of {', '.join(SECTORS)}")
        if self.sigma_gain <= 0:
            raise ValueError(f"sigma_gain = {self.sigma_gain}: must be positive, the season's error goes with it")
        if self.leaves < 0:
            raise ValueError(f"leaves = {self.leaves}: a number of leaves, or 0 for every cell")
        if self.members < 2:
            raise ValueError(f"members = {self.members}: a spread takes at least 2")


@dataclass(frozen=True)
class ClusterOptions:
    """How a cluster is reached (`pipeline.cluster`); no result depends on it.

    Parameters
    ----------
    min_workers : with a number, workers come and go between it and `workers`; `None` keeps `workers` of them.
    tls_ca, tls_cert, tls_key : PEM files for a ``tls://`` scheduler; without them Dask's own configuration
        (``distributed.comm.tls``) says.
    allow_plain : accept a ``tcp://`` scheduler on another machine. Whoever reaches it can run code on it and read what
        passes: only inside a network that a firewall or NetworkPolicy closes.
    manifest : DaskCluster resource for ``--scheduler kubernetes``; empty takes the packaged one.
    namespace : where it is created; empty takes the namespace of the pod or of the kubeconfig.
    wait_for_workers : s; a run whose tasks wait so long while no worker works on any of them ends. Long enough for a
        Kubernetes node to start.
    """

    min_workers: int | None = None
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    allow_plain: bool = False
    manifest: str = ""
    namespace: str = ""
    wait_for_workers: float = 600.0

    def __post_init__(self) -> None:
        if not self.wait_for_workers > 0:
            raise ValueError("wait_for_workers: expected more than 0 s")


@dataclass(frozen=True)
class StorageOptions:
    """How an object store is reached. Credentials are no settings: they come from the environment or a profile.

    Parameters
    ----------
    endpoint : ``https://host:port`` of a server other than Amazon's; empty: Amazon S3.
    region : of the bucket, where the server has regions.
    profile : name of a profile of the AWS configuration files; empty: environment, default profile, or the role of
        the machine.
    anonymous : sign nothing; for public buckets.
    path_style : ``endpoint/bucket/key`` instead of ``bucket.endpoint/key``; most servers but Amazon's want it.
    verify_tls : check the server's certificate.
    ca_bundle : path of a file of certificates to check it against, instead of the usual ones.
    retries : times a request is sent again after no answer, 5xx or SlowDown, with growing pauses.
    connect_timeout, read_timeout : s.
    concurrency : requests under way at the same time, for each process.
    sole_writer : nobody else publishes into this store; needed where the server ignores conditional puts.
    """

    endpoint: str = ""
    region: str = ""
    profile: str = ""
    anonymous: bool = False
    path_style: bool = True
    verify_tls: bool = True
    ca_bundle: str = ""
    retries: int = 6
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    concurrency: int = 16
    sole_writer: bool = False

    def __post_init__(self) -> None:
        address = urlsplit(self.endpoint)
        if self.endpoint and (address.scheme not in ("http", "https") or not address.hostname):
            raise ValueError("endpoint: expected https://host:port")
        if "@" in address.netloc or address.query:
            raise ValueError("endpoint holds credentials: they belong in the environment or a profile")
        if not 0 <= self.retries <= 50 or not 1 <= self.concurrency <= 1024:
            raise ValueError("expected retries 0..50 and concurrency 1..1024")
        if not (self.connect_timeout > 0 and self.read_timeout > 0):
            raise ValueError("expected timeouts of more than 0 s")
