"""Closed-form derivatives are derivatives; a registered form is fitted like a built-in one."""

import numpy as np
import pytest

from transvae_platform.fitting.laws.fit import fit_law
from transvae_platform.fitting.laws.forms import GADRE, L_OF_N, L_OF_N_D, POWER, UserForm, form_named, register
from transvae_platform.fitting.laws.models import Robust, make_model


def table(rng, n=40):
    columns = {"N": 10 ** rng.uniform(7, 10, n), "D": 10 ** rng.uniform(9, 12, n), "M": 10 ** rng.uniform(0, 3, n)}
    return columns, (1.8 + 400 * columns["N"] ** -0.35 + 2000 * columns["D"] ** -0.37) * (1 + 0.01 * rng.normal(size=n))


def own_form(**changes):
    """E + A N^-alpha with A at N = 1e9 and the parameters as they are: the gradient is by hand."""

    def predict(theta, columns):
        return theta[0] + theta[1] * (columns["N"] / 1e9) ** -theta[2]

    def gradient(theta, columns):
        power = (columns["N"] / 1e9) ** -theta[2]
        return np.column_stack([np.ones_like(power), power, -theta[1] * power * np.log(columns["N"] / 1e9)])

    bounds = {"E": (0.5, 2.0), "A": (0.1, 1.0), "alpha": (0.1, 0.6)}
    return UserForm(
        **{
            "name": "mine",
            "expression": "E + A (N/1e9)^-alpha",
            "parameters": ("E", "A", "alpha"),
            "variables": ("N",),
            "predict": predict,
            "gradient": gradient,
            "bounds": bounds,
        }
        | changes
    )


@pytest.mark.parametrize("form", [L_OF_N, POWER, L_OF_N_D, GADRE, own_form()], ids=lambda f: f.name)
@pytest.mark.parametrize("robust", [Robust(0.02), Robust(np.inf), Robust(0.05, "linear"), Robust(np.inf, "linear")])
def test_derivatives_are_those_of_the_objective(form, robust):
    rng = np.random.default_rng(1)
    columns, y = table(rng)
    model = make_model(form, columns, y)
    theta = rng.normal(scale=0.2, size=(1, len(form.parameters))) + 0.4
    w = rng.integers(0, 4, (1, len(y))).astype(float)
    f, g, h = model.derivatives(theta, w, robust)
    for p, step in enumerate(1e-6 * np.eye(len(form.parameters))):
        (up, g_up, _), (down, g_down, _) = (model.derivatives(theta + s * step, w, robust) for s in (1, -1))
        assert g[0, p] == pytest.approx((up[0] - down[0]) / 2e-6, rel=1e-5, abs=1e-7 * abs(f[0]))
        np.testing.assert_allclose(h[0, p], (g_up[0] - g_down[0]) / 2e-6, rtol=1e-4, atol=1e-8 * len(y))


def test_huber_is_the_sum_over_points():
    columns, y = table(np.random.default_rng(2))
    model, theta = make_model(POWER, columns, y), np.zeros((1, 2))
    r = np.abs(np.log(y))  # theta 0 is the law L = 1
    by_hand = np.where(r <= 0.1, r**2 / 2, 0.1 * (r - 0.05)).sum()
    assert model.derivatives(theta, np.ones((1, len(y))), Robust(0.1))[0][0] == pytest.approx(by_hand)


def test_a_users_form_finds_what_the_built_in_one_finds():
    columns, y = table(np.random.default_rng(3))
    for robust in (Robust(np.inf), Robust(0.01)):
        ours, theirs = fit_law(L_OF_N, columns, y, robust), fit_law(own_form(), columns, y, robust)
        assert theirs.converged, theirs.doubts
        assert theirs.objective == pytest.approx(ours.objective, rel=1e-9)
        assert theirs.parameters["alpha"] == pytest.approx(ours.parameters["alpha"], rel=1e-5)
        np.testing.assert_allclose(theirs.predict(columns), ours.predict(columns), rtol=1e-5)


def test_registry_names_what_it_knows_and_keeps_names_apart():
    assert register(L_OF_N_D) is form_named("L(N,D)")
    with pytest.raises(ValueError, match="there already"):
        register(own_form(name="L(N,D)"))
    with pytest.raises(ValueError, match="bounds must name each of E, A, alpha"):
        register(own_form(name="other", bounds={"E": (0, 1)}))
    with pytest.raises(ValueError, match="'envelope' is there already"):
        register(own_form(name="envelope"))
    for change in ({"variables": ()}, {"parameters": ()}, {"parameters": ("A", "A", "alpha")}):
        with pytest.raises(ValueError, match="at least one variable and parameters of different names"):
            register(own_form(name="other", **change))
    with pytest.raises(ValueError, match="sizes names Q, which is none of its variables"):
        register(own_form(name="other", sizes={"Q": 3}))
    with pytest.raises(ValueError, match="the name of a form is a text"):
        register(own_form(name=5))
    for ends in ((1.0,), (float("nan"), 1.0), ("a", 1.0), None):
        with pytest.raises(ValueError, match="the bounds of E must be two finite numbers"):
            register(own_form(name="other", bounds={"E": ends, "A": (0, 1), "alpha": (0, 1)}))
    with pytest.raises(ValueError, match=r"known are L\(N\)"):
        form_named("L(Q)")
