"""The agent: PID 1 of the postgres container. Owns the wiring and the wake-ups, decides nothing.

gather facts -> decide -> act (loop.py), once per wake-up. Wake-ups come from watches, from the
process table (SIGCHLD), from answers of peers, and from the time the last decision asked for.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pgha import copies, sigterm
from pgha.arrival import Ground, arrive
from pgha.ballot import Ballot
from pgha.book import Book
from pgha.clock import boottime
from pgha.container import postgres_bin, say_who_dies
from pgha.ear import Ear
from pgha.executor import Executor
from pgha.facts import Facts, Run
from pgha.fencer.guard import Guard
from pgha.gather import Gatherer, judged
from pgha.http.metrics import Metrics
from pgha.http.probes import Probes
from pgha.jobs import Jobs
from pgha.keeper import Keeper
from pgha.kube.client import Api
from pgha.kube.errands import Errands
from pgha.kube.leases import parse_lease
from pgha.kube.pods import PodView, parse_pod
from pgha.kube.watching import Watch
from pgha.loop import Loop
from pgha.member import Member
from pgha.pace import HeededLease
from pgha.parting import Parting
from pgha.peers.client import PeerClient
from pgha.peers.server import PeerServer
from pgha.peers.tls import TlsFiles
from pgha.postgres.certificate import ServerCertificate, Source, ends_at
from pgha.postgres.directory import DirectoryState
from pgha.postgres.server import Server
from pgha.postgres.sql import Sql
from pgha.pulse import Pulse
from pgha.quorum import promisers
from pgha.record import Record
from pgha.report import Report
from pgha.rules import Decision, suspect
from pgha.rules.leaving import refuses_for
from pgha.settings import Identity, Settings
from pgha.statement import Statement
from pgha.votes import Poll
from pgha.voting import Voting
from pgha.wake import Bell

CONFIG = Path("/etc/pgha/config/settings.json")
AUTH = Path("/etc/pgha/auth")
MEMBERS = Path("/etc/pgha/members")
CLIENT_TLS = Path("/etc/pgha/tls")
RUN = Path("/run/pgha")
PEER_PORT, HTTP_PORT = 8009, 8008
STUCK_AFTER = 90.0  # seconds without a turn of the loop after which the agent is not alive
ANSWER_WITHIN = 5.0  # seconds that an answer to another member gets when the agent ends
RENEW_WITHIN = 60.0  # seconds without a turn after which the lease is not renewed


class Agent:
    """One per container. `run` returns when the container is to end."""

    def __init__(
        self, settings: Settings, identity: Identity, api: Api, ground: Ground, bin_dir: Path
    ) -> None:
        self.settings, self.identity, self.api = settings, identity, api
        self._bell = Bell()
        self._leaving = False
        self._over = False
        self.report = Report(identity.pod)
        self.log = self.report.log
        self.directory, self.ownership = ground.directory, ground.ownership
        self.member = Member(self.directory)
        self.server = Server(self.directory, bin_dir, RUN)
        self.sql = Sql(RUN, settings.username)
        self.guard = Guard(on_fenced=self._fenced)
        self.metrics = Metrics(settings.name, identity.pod)
        tls = TlsFiles.in_folder(MEMBERS)
        client = PeerClient(tls, PEER_PORT)
        self._pods: Mapping[str, PodView] = {}
        self._pod_objects: dict[str, dict[str, Any]] = {}
        self._replicas: int | None = None
        self.errands = Errands(
            api, identity.pod, identity.uid, settings.name, known=lambda: self._pod_objects
        )
        self.certificate = ServerCertificate(
            Source.of_clients(CLIENT_TLS), Source.of_members(MEMBERS), RUN, self._unservable
        )
        self.certificate.refresh()
        self.copies = copies.Copies(
            settings, identity, self.directory, self.server, self.sql, RUN, self.certificate.path,
            AUTH, MEMBERS,
        )
        self.jobs = Jobs(
            {"clone": self.copies.clone, "rewind": self.copies.rewind,
             "initdb": self.copies.initialize},
            self.wake, self.log,
        )
        self.voting = Voting(self.member, self.server, self.jobs)
        self.statement = Statement(self)
        heard = self.statement.hear
        self.book = Book(client, self._hosts, self.statement.status, self.wake, heard)
        self.poll, self.early = (
            Poll(
                client, self._hosts, identity.incarnation, identity.pod,
                lambda *vote: judged(self.gatherer.lease().record, *vote), self.wake, heard,
            )
            for _ in range(2)
        )
        self.ear = Ear(
            self.member, self.server.receiver, suspect.DOUBT_AFTER, self.wake, self.log
        )
        leases = HeededLease(api, settings.name, settings.times.renew_deadline)
        self.keeper = Keeper(
            leases, identity, settings.times,
            allow=self.guard.allow_until, may_renew=self._may_renew,
            flushed=lambda: self.pulse.flushed, wake=self.wake, promises=self._promises,
        )
        self.parting = Parting(client, self._hosts, self.keeper.told)
        self.ballot = Ballot(
            self.statement, self.directory, settings.times.lease_duration, self.wake
        )
        if self.directory.state() is DirectoryState.EMPTY:
            self.ballot.fresh_directory()
        self.pulse = Pulse(
            self.sql,
            is_primary=lambda: self._run_now() is Run.PRIMARY,
            timeline=lambda: self.member.primary_timeline,
            directory_of=self.book.asked_since,
            wanted=self._wanted,
            wake=self.wake, stopping_for=self.member.stopping_for,
            always_waited=self.server.waited, log=self.log,
        )
        self.gatherer = Gatherer(
            settings, identity, self.member, self.server, self.sql, self.keeper, self.ballot,
            self.book, self.poll, self.early, self.ear, self.jobs, self.pulse, self.guard,
            self.errands,
            pods=lambda: self._pods, replicas=lambda: self._replicas,
            foreign_owner=lambda: self.ownership.foreign, leaving=lambda: self._leaving,
            gone=lambda: self.ownership.gone, log=self.log,
        )
        self.executor = Executor(
            settings, identity, self.member, self.server, self.copies.conf, self.sql, self.keeper,
            self.ballot, self.book, self.poll, self.early, self.jobs, self.pulse, self.errands,
            password=self.copies.replication_password, log=self.log,
            apply_roles=self.copies.apply_roles, end=self._finish, tell=self.parting.tell,
            asked=leases.asked,
        )
        self.loop = Loop(
            self.member, self.gatherer, self.executor, self.report, self.metrics, self.errands,
            self.pulse, settings.times,
        )
        self.peer_server = PeerServer("", PEER_PORT, tls, {
            "/status": lambda body: self.statement.status(),
            "/vote": self.ballot.vote,
            "/early-vote": self.ballot.early_vote,
            "/promise": self.ballot.promise,
            "/released": self.parting.hear,
            "/wake": self._poked,
        })
        self.probes = Probes(HTTP_PORT, self._ready, self._live, self.metrics.registry)
        self.watches = self._make_watches()

    # -- the loop -------------------------------------------------------------------------------

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._terminated)
        signal.signal(signal.SIGINT, self._terminated)
        signal.signal(signal.SIGCHLD, lambda *_: self._bell.ring())
        if sigterm.came:
            self._terminated()
        say_who_dies(self.identity.incarnation)
        self.log("agent-started", incarnation=self.identity.incarnation,
                 version=self.settings.version, pid=os.getpid())
        self.serve()

    def serve(self) -> None:
        """All that this member does, without what belongs to a process; until it is to end."""
        self.guard.start()
        self.metrics.lease_left(lambda: (t := self.keeper.tenure()) and t.left or 0.0)
        self.metrics.api_calls(self.api.calls)
        for which, file in (("server", self.certificate.path), ("member", MEMBERS / "member.crt")):
            self.metrics.certificate(which, partial(ends_at, file))
        self.ownership.start(self._disowned)
        for start in (self.peer_server.start, self.probes.start, *(w.start for w in self.watches)):
            start()
        threads = [("renewals", self.keeper.run), ("pulse", self.pulse.run)]
        if self.settings.early:
            threads.append(("ear", self.ear.run))
        for name, work in threads:
            threading.Thread(target=work, name=name, daemon=True).start()
        while not self._over:
            nap = self.loop.turn()
            self._bell.wait(nap)
            self.server.reap()
            self._look_at_certificate()
        self._close()

    def wake(self) -> None:
        self._bell.ring()

    def _terminated(self, *_: object) -> None:
        self._leaving = True
        self._bell.ring()

    def _disowned(self) -> None:
        """The directory is another pod's: what is answered here would be that one's to keep."""
        self.peer_server.stop()
        self._bell.ring()

    def _finish(self) -> None:
        self._over = True

    def _close(self) -> None:
        """PostgreSQL is stopped, and the lease is given back, or left to end (foreign-owner)."""
        self.pulse.stop()
        self.ear.stop()
        self.keeper.stop()
        self.errands.stop(timeout=1.0)
        for watch in self.watches:
            watch.stop(timeout=0.1)
        self.peer_server.stop()
        # A vote or a promise that is being answered ends first; from then on none is written.
        self.member.acting.acquire(timeout=ANSWER_WITHIN)
        self.ownership.end()
        self.guard.stop()
        if last := self.last():
            # Without a pod nobody at its address refuses a connection, which hangs then.
            facts = last[0]
            time.sleep(max(0.0, facts.now + refuses_for(facts) - boottime()))
        self.log("agent-ended")

    # -- what the parts ask of each other -------------------------------------------------------

    def _run_now(self) -> Run:
        return last[0].run.run if (last := self.last()) else Run.STOPPED

    def last(self) -> tuple[Facts, Decision] | None:
        return self.loop.last

    def _fenced(self, at: float) -> None:
        self.log("fenced", boottime=at)
        self._bell.ring()

    def _look_at_certificate(self) -> None:
        """The mounted files are looked at with every turn, at the latest after loop.LONGEST_NAP."""
        try:
            if self.certificate.refresh():
                self.server.reload()
                self.log("certificate-renewed", ends_at=ends_at(self.certificate.path))
        except OSError as e:  # nothing that PostgreSQL should end for
            self.log("certificate-not-looked-at", why=str(e))

    def _unservable(self, why: str) -> None:
        self.log("certificate-unusable", why=why)
        self.errands.event("Pod", "CertificateUnusable", why, warning=True)

    def _poked(self, body: dict[str, Any]) -> dict[str, Any]:
        self._bell.ring()
        return {}

    def _may_renew(self) -> str | None:
        """Memory only (law, point 3)."""
        if not self.guard.alive(2.0):
            return "the fencer does not answer"
        if boottime() - self.loop.turned_at > RENEW_WITHIN:
            return "the agent's loop is stuck"
        return self.pulse.ill(self.settings.times.renew_deadline)

    def _promises(self, records: Sequence[Record], deleted: bool) -> float | None:
        """The API does not answer, or the Lease is `deleted`: who promises not to race, and has
        not? By each of these records."""
        needs = [promisers(r, self.identity.pod) for r in records]
        duration = self.settings.times.lease_duration
        return self.poll.promises(records[0].term, duration, needs, deleted)

    def _wanted(self) -> tuple[int, frozenset[str]]:
        record = self.gatherer.lease().record
        declared = self.gatherer.declared()
        standbys = frozenset(
            n for n in record.voter_names if n != self.identity.pod and n in declared
        )
        return max(record.write_quorum, 0), standbys

    def _hosts(self) -> Mapping[str, str]:
        """Where the other declared members are: by address while the pod is known, else by name."""
        pods = self._pods
        return {
            n: (pods[n].ip if n in pods else None) or self.settings.host(n)
            for n in self.gatherer.declared() if n != self.identity.pod
        }

    def _ready(self) -> tuple[bool, str]:
        if (last := self.last()) is None:
            return False, "the agent starts"
        facts, decision = last
        ok = (facts.run.run is Run.PRIMARY and facts.holds and facts.promoted) or (
            facts.run.run is Run.STANDBY and not facts.holds
            and (facts.run.receiving or not facts.holder_is_primary)
        )
        return ok, f"{decision.rule}: {decision.sentence}"

    def _live(self) -> tuple[bool, str]:
        silent = boottime() - self.loop.turned_at
        if silent > RENEW_WITHIN:
            faulthandler.dump_traceback()
        return silent < STUCK_AFTER, f"the loop turned {silent:.0f} s ago"

    # -- the API --------------------------------------------------------------------------------

    def _make_watches(self) -> list[Watch]:
        s, ns = self.settings, f"namespaces/{self.settings.namespace}"
        selector = f"app.kubernetes.io/name={s.app_name},app.kubernetes.io/instance={s.name}"
        return [
            Watch(
                self.api, f"/apis/coordination.k8s.io/v1/{ns}/leases", self._lease_changed,
                self._down, field_selector=f"metadata.name={s.name}",
            ),
            Watch(self.api, f"/api/v1/{ns}/pods", self._pods_changed, self._down,
                  label_selector=selector),
            Watch(
                self.api, f"/apis/apps/v1/{ns}/statefulsets", self._set_changed, self._down,
                field_selector=f"metadata.name={s.name}",
            ),
        ]

    def _lease_changed(self, objects: dict[str, dict[str, Any]]) -> None:
        found = objects.get(self.settings.name)
        self.keeper.observe(parse_lease(found) if found is not None else None)

    def _pods_changed(self, objects: dict[str, dict[str, Any]]) -> None:
        self._pod_objects = objects
        self._pods = {name: parse_pod(obj) for name, obj in objects.items()}
        own = self._pods.get(self.identity.pod)
        if own is not None and own.uid == self.identity.uid and own.deleting:
            # As good as SIGTERM, of which there is one: a deletion is never taken back. Another
            # UID's is of the pod before this one, or of the next.
            self._leaving = True
        self._bell.ring()

    def _set_changed(self, objects: dict[str, dict[str, Any]]) -> None:
        found = objects.get(self.settings.name)
        if found is not None:
            count = (found.get("spec") or {}).get("replicas")
            if isinstance(count, int) and count >= 1:
                self._replicas = count
                self._bell.ring()

    def _down(self, why: str) -> None:
        self.log("api-down", why=why)


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings, identity, api = Settings.read(CONFIG), Identity.of_this_container(), Api.in_cluster()
    programs = postgres_bin()
    ground = arrive(settings, identity, api, programs, RUN, HTTP_PORT)
    if ground is not None:
        agent = Agent(settings, identity, api, ground, programs)
        end_of(agent.run)
    return 0


def end_of(run: Callable[[], None]) -> None:
    """Run, and end the process at once if that fails: the end of an interpreter waits for threads,
    while another one renews the lease. With PID 1 all in the container ends."""
    try:
        run()
    except Exception:  # noqa: BLE001 - said, and it ends
        traceback.print_exc()
        sys.stdout.flush()
        os._exit(1)


