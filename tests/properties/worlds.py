"""Random curves, jobs and events, drawn by hypothesis."""

from dataclasses import dataclass

from hypothesis import strategies as st

from eflib.scheduling import ScalingCurve


@dataclass(frozen=True)
class Wish:
    """A job to be: when it comes, how much work it is, and how tight its deadline.

    Attributes:
        gap: Seconds after the one before.
        curve: Its throughput.
        seconds: Time that it would take on one GPU.
        tightness: Its deadline as a multiple of that time; None for best effort.
    """

    gap: float
    curve: ScalingCurve
    seconds: float
    tightness: float | None

    @property
    def steps(self) -> float:
        """Steps of work."""
        return self.seconds * self.curve.throughput(1)


@st.composite
def curves(draw: st.DrawFn) -> ScalingCurve:
    """Draw a curve, concave or not; some fall again."""
    rate = draw(st.floats(0.5, 20.0))
    points = {1: rate}
    for exponent in range(1, draw(st.integers(1, 4)) + 1):
        rate *= draw(st.floats(0.8, 2.2))
        points[1 << exponent] = rate
    return ScalingCurve(points)


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    """Draw a job."""
    return Wish(
        gap=draw(st.sampled_from([0.0, 1.0, 30.0, 200.0])),
        curve=draw(curves()),
        seconds=draw(st.floats(10.0, 2000.0)),
        tightness=draw(st.none() | st.floats(0.1, 2.0)),
    )
