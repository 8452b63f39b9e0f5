"""The command line. `pgha agent` and `pgha install` are for the pod, the rest is for people.

status, why, switchover, waive-quorum: with a kubeconfig (KUBECONFIG, or --kubeconfig) from
anywhere, or without one from inside a pod:
`kubectl exec NAME-0 -c postgres -- /pgha/bin/pgha status`.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pgha import asked
from pgha.facts import Request, Waiver
from pgha.install import InstallError
from pgha.install import install as copy
from pgha.kube.client import Api
from pgha.kube.errors import ApiError, Conflict
from pgha.kube.leases import LeaseApi, RawLease
from pgha.kube.pods import STATUS_ANNOTATION, PodView, parse_pod
from pgha.record import Record, RecordError
from pgha.settings import SettingsError, pod_of
from pgha.sight import RECORD

LOOK = 1.0  # seconds between two looks at a Lease that should not change


class UserError(Exception):
    """Printed as one sentence; exit code 1."""


@dataclass(frozen=True)
class Cluster:
    """A cluster as the API shows it to a person."""

    api: Api
    name: str
    lease: RawLease
    pods: dict[str, PodView]
    said: dict[str, dict[str, Any]]  # pod -> its status annotation

    @property
    def record(self) -> Record:
        """Raises UserError if it cannot be read, but only who asks for it needs it."""
        try:
            return Record.parse(self.lease.annotations.get(RECORD))
        except RecordError as e:
            raise UserError(f"Lease {self.name} in namespace {self.api.namespace}: {e}") from e

    @property
    def primary(self) -> str | None:
        """Who holds the lease and was promoted in its term; to hold it is not enough."""
        p = self.record.promotion
        reigns = p is not None and p.done and p.term == self.record.term
        return pod_of(self.lease.holder) if reigns else None


def read_cluster(api: Api, name: str) -> Cluster:
    """Raises ApiError."""
    try:
        lease = LeaseApi(api, name).read(5.0)
    except ApiError as e:
        where = f"Lease {name} in namespace {api.namespace}"
        raise ApiError(e.status, e.reason, f"{where}: {e.message}") from e
    found = api.request(
        "GET", f"/api/v1/namespaces/{api.namespace}/pods",
        query={"labelSelector": f"app.kubernetes.io/instance={name}"},
    )
    pods, said = {}, {}
    for obj in found.get("items", []):
        pod = parse_pod(obj)
        pods[pod.name] = pod
        try:
            text = obj["metadata"].get("annotations", {}).get(STATUS_ANNOTATION, "{}")
            said[pod.name] = dict(json.loads(text))
        except (ValueError, TypeError):
            said[pod.name] = {}
    return Cluster(api, name, lease, pods, said)


def status(c: Cluster) -> int:
    r = c.record
    print(f"cluster   {c.api.namespace}/{c.name}")
    print(f"primary   {c.primary or 'none'}")
    print(f"lease     held by {pod_of(c.lease.holder) or 'nobody'}, term {r.term}, "
          f"renewed {c.lease.renew_time or 'never'}")
    if r.promotion is not None:
        print(f"promotion {pod_of(r.promotion.promoter)} in term {r.promotion.term}"
              + ("" if r.promotion.done else ", not known to have happened"))
    if r.waived is not None:
        print(f"waived    term {r.waived.term} for {r.waived.member}, without "
              f"{', '.join(r.waived.missing) or 'nobody'}")
    print(f"timeline  {r.timeline}")
    mode = "degraded to asynchronous" if r.degraded else (
        f"{r.write_quorum} standbys acknowledge" if r.write_quorum else "asynchronous"
    )
    print(f"quorum    {mode}; voters {', '.join(sorted(r.voter_names)) or 'none'}, "
          f"{r.read_quorum} heard before a promotion")
    print()
    print(f"{'MEMBER':32} {'ROLE':8} {'READY':6} {'SERVER':9} {'TIMELINE':8} RULE")
    for name in sorted(c.pods, key=lambda n: (len(n), n)):
        pod, said = c.pods[name], c.said[name]
        print(f"{name:32} {pod.role or '-':8} {'yes' if pod.ready else 'no':6} "
              f"{said.get('run', '-'):9} {said.get('timeline', '-')!s:8} {said.get('rule', '-')}")
    return 0 if c.primary else 1


def why(c: Cluster, member: str | None) -> int:
    names = [member] if member else sorted(c.pods, key=lambda n: (len(n), n))
    for name in names:
        if name not in c.pods:
            raise UserError(
                f"{name} is no member of {c.name}: choose of {', '.join(sorted(c.pods)) or 'none'}"
            )
        said = c.said[name]
        print(f"{name}: {said.get('rule', 'silent')}: {said.get('why', 'it has said nothing yet')}"
              + (f" ({said['detail']})" if said.get("detail") else ""))
    _ = c.record  # one that cannot be read is told after what the members make of it
    return 0


def switchover(c: Cluster, to: str | None, timeout: float) -> int:
    before = c.primary
    if before is None:
        raise UserError(f"{c.name} has no primary to switch over from: see `pgha why {c.name}`")
    if to == before:
        raise UserError(f"{to} is the primary already: name another member")
    if to is not None and to not in c.record.voter_names:
        raise UserError(
            f"{to} cannot take over, it is not a voter: choose of "
            f"{', '.join(sorted(c.record.voter_names - {before})) or 'none'}"
        )
    request = Request(secrets.token_hex(6), to)
    _annotate(c, asked.SWITCHOVER, asked.dump(request))
    for now in _looks(c, timeout):
        if now.record.switched == request.id and now.primary is not None:
            if now.primary == before:
                raise UserError(
                    f"the switchover was refused by {before}: see `kubectl describe pod {before}`"
                )
            print(f"primary   {now.primary} (was {before})")
            return 0
    raise UserError(f"no new primary after {timeout:.0f} s: see `pgha why {c.name}`")


def waive_quorum(c: Cluster, member: str, term: int, accepted: bool, timeout: float) -> int:
    """A person accepts that acknowledged commits are lost; runbook, "All that is left refuses"."""
    p = c.record.promotion
    if p is None or term != p.term:
        raise UserError(
            f"--term {term} is not the term of {c.name}'s last promotion, which is "
            f"{p.term if p else 'none'}: look at `pgha status {c.name}` again before you give it"
        )
    if member not in c.record.voter_names:
        raise UserError(
            f"{member} cannot be promoted, it is not a voter: choose of "
            f"{', '.join(sorted(c.record.voter_names)) or 'none'}"
        )
    if not accepted:
        others = ", ".join(sorted(c.record.voter_names - {member})) or "nobody"
        raise UserError(
            f"acknowledged commits may be lost: all that {member} lacks, of those of {others} that "
            "do not answer; one that is only cut off may still be the primary and take writes, so "
            "power them off or delete them first; if they are gone for ever, say --accept-data-loss"
        )
    _without_primary(c)
    waiver = Waiver(secrets.token_hex(6), term, member)
    _annotate(c, asked.WAIVER, asked.dump(waiver))
    for now in _looks(c, timeout):
        r = now.record
        if r.waiver_refused == waiver.id:
            raise UserError(f"the waiver is void, {now.primary} is the primary")
        if now.primary is not None and r.promotion != p:
            used = r.waived is not None and r.waived.id == waiver.id
            lost = ", ".join(r.waived.missing) if used and r.waived else ""
            print(f"primary   {now.primary}")
            print(f"given up  {'what only ' + lost + ' had' if lost else 'no voter is missing'}"
                  if used else "given up  nothing, the waiver was not needed")
            return 0
    raise UserError(
        f"no primary after {timeout:.0f} s: `pgha why {c.name} --member {member}` tells what is in "
        "its way; the waiver stays in force until the next promotion"
    )


def _looks(c: Cluster, seconds: float) -> Iterator[Cluster]:
    """The cluster again and again, after something was asked for: that stands, whether the API
    answers or not. Raises UserError if in the end it does not."""
    deadline = time.monotonic() + seconds
    failed: ApiError | None = None
    while time.monotonic() < deadline:
        try:
            now = read_cluster(c.api, c.name)
        except ApiError as e:
            failed = e
        else:
            failed = None
            yield now
        time.sleep(0.1)
    if failed is not None:
        raise UserError(
            f"what was asked for stands, but after {seconds:.0f} s it is not known what came of "
            f"it ({failed}): see `pgha status {c.name}` once the Kubernetes API answers"
        )


def _without_primary(c: Cluster) -> None:
    """A primary renews its lease; the clocks of two machines are not compared to tell."""
    if c.primary is None:
        return
    deadline = time.monotonic() + float(c.lease.duration or 0) + 2 * LOOK
    print(f"watching the lease of {c.primary} for a sign of life", file=sys.stderr)
    while time.monotonic() < deadline:
        now = read_cluster(c.api, c.name)
        if now.primary is None:
            return
        if now.lease.renew_time != c.lease.renew_time:
            raise UserError(
                f"{now.primary} is the primary and renews its lease: there is nothing to waive"
            )
        time.sleep(LOOK)


def _annotate(c: Cluster, key: str, text: str) -> None:
    """What the agents are asked for; the record beside it is left as it is."""
    leases, lease = LeaseApi(c.api, c.name), c.lease
    for _ in range(10):
        try:
            leases.write(replace(lease, annotations={**lease.annotations, key: text}), 5.0)
            return
        except Conflict:
            lease = leases.read(5.0)
    raise UserError(f"Lease {c.name} changes too often to be written: try again")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="pgha", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("agent", help="run as PID 1 of the postgres container")
    install = verbs.add_parser("install", help="copy this program into a folder (init container)")
    install.add_argument("target", type=Path)
    verbs.add_parser("rules", help="print the decision table as Markdown")
    for verb, text in (("status", "who is primary, who is what"),
                       ("why", "the rule that decides at each member, and its reason"),
                       ("switchover", "move the primary to another member"),
                       ("waive-quorum", "promote a member though acknowledged commits get lost; "
                        "power off or delete those not heard first: they may still write")):
        p = verbs.add_parser(verb, help=text)
        p.add_argument("name", nargs="?", help="the cluster (default: this pod's)")
        p.add_argument("-n", "--namespace")
        p.add_argument("--kubeconfig", default=os.environ.get("KUBECONFIG"))
        if verb == "switchover":
            p.add_argument("--to", metavar="POD")
        if verb == "waive-quorum":
            p.add_argument("--member", metavar="POD", required=True)
            p.add_argument("--term", metavar="N", type=int, required=True,
                           help="the term of the last promotion, as `pgha status` shows it")
            p.add_argument("--accept-data-loss", action="store_true",
                           help="the members that are not heard are gone for ever, and powered off")
        if verb in ("switchover", "waive-quorum"):
            p.add_argument("--timeout", type=float, default=60.0, help="seconds")
        if verb == "why":
            p.add_argument("--member", metavar="POD")
    args = parser.parse_args(argv)
    try:
        return _obey(args)
    except (UserError, ApiError, InstallError, SettingsError) as e:
        print(f"pgha: {e}", file=sys.stderr)
        return 1


def _obey(args: argparse.Namespace) -> int:
    if args.verb == "agent":
        from pgha.agent import main as run

        return run()
    if args.verb == "install":
        copy(args.target)
        return 0
    if args.verb == "rules":
        from pgha.rules.document import markdown

        print(markdown(), end="")
        return 0
    return _ask(args)


def _api(kubeconfig: str | None) -> Api:
    try:
        return Api.from_kubeconfig(kubeconfig) if kubeconfig else Api.in_cluster()
    except (OSError, ValueError, TypeError, AttributeError) as e:
        # Files that are not there, certificates and keys that are none, values of another shape.
        where = f"the kubeconfig {kubeconfig}" if kubeconfig else "the pod's ServiceAccount"
        raise UserError(
            f"{where} cannot be used ({e}): look at its server, certificates and keys"
        ) from e


def _ask(args: argparse.Namespace) -> int:
    api = _api(args.kubeconfig)
    if args.namespace:
        api.namespace = args.namespace
    name = args.name or os.environ.get("POD_NAME", "").rpartition("-")[0]
    if not name:
        raise UserError("no cluster named: give its name, as in `pgha status NAME`")
    cluster = read_cluster(api, name)
    if args.verb == "status":
        return status(cluster)
    if args.verb == "why":
        return why(cluster, args.member)
    if args.verb == "waive-quorum":
        return waive_quorum(
            cluster, args.member, args.term, args.accept_data_loss, args.timeout
        )
    return switchover(cluster, args.to, args.timeout)
