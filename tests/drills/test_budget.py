"""Two server processes and many clients at once: together they spend no more than there is."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demo.stand_in_cloud import StandInCloud
from tests.factories import a_body
from tests.harness import free_port, running_proxy, write_policy

pytestmark = pytest.mark.slow

PRICES = "usd_per_1k_tokens:\n  openai: {gpt-4o-mini: {input: 0.03, output: 0.06}}\n"
CENTS = 5


@pytest.mark.timeout(300)
def test_the_workers_share_one_budget(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES)
    budgets = f"each_other_team: {{day_usd: {CENTS / 100}}}\nmax_output_tokens: 50\n"
    (tmp_path / "budgets.yaml").write_text(budgets)
    # The kernel says who takes a connection, so that one of the two may be given none of those that
    # there is money for: such a run tells nothing of what they share.
    assert any(both_send_within_the_budget(tmp_path, run) for run in range(3))


def both_send_within_the_budget(folder: Path, run: int) -> bool:
    """Spend a day's budget with many clients, check the sum, tell whether both workers sent."""
    with StandInCloud() as cloud:
        local_is_down = ("on_local_failure: refuse", "on_local_failure: cloud")
        env = {
            "RINGFENCE_WORKERS": "2",
            "RINGFENCE_POLICY_FILE": str(write_policy(folder, cloud.base_url, [local_is_down])),
            "RINGFENCE_LOCAL_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",
            "RINGFENCE_PRICES_FILE": str(folder / "prices.yaml"),
            "RINGFENCE_BUDGETS_FILE": str(folder / "budgets.yaml"),
            "RINGFENCE_EXPOSE_METRICS": "true",
        }

        def status(number: int) -> int:
            asked = a_body(f"River {number}?")
            return proxy.post(json.dumps(asked).encode()).status_code

        with running_proxy(folder / str(run), cloud.base_url, env, ready="/healthz") as proxy:
            proxy.ask_every_worker("Write to Anna Miller, 12 Elm Street.")  # refused at home: free
            assert cloud.requests == []
            with ThreadPoolExecutor(16) as clients:
                answers = list(clients.map(status, range(80)))
            costs = [float(str(r["cost_usd"])) for r in proxy.records("egress.outcome")]
            senders = {r["chain"] for r in proxy.records("egress.intent")}
            told = proxy.metrics()
    # 502: another request took the money between the decision and the attempt
    assert {200, 503} <= set(answers) <= {200, 502, 503}
    assert len(costs) == answers.count(200) == len(cloud.requests)
    assert 0.5 * CENTS < sum(costs) * 100 <= CENTS
    assert b'ringfence_budget_left_ratio{period="day",scope="default"} 0.' in told
    reasons = {str(r["routing"]["reason"]) for r in proxy.records("decision")}  # type: ignore[index]
    assert "budget_spent" in reasons
    return len(senders) == 2
