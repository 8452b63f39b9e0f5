"""The command line `python -m lab VERB`; owns only the words, the work is in the other files."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

from lab import demo
from lab.cluster import Lab, say
from lab.requirements import LabError, install_packages
from lab.versions import CLUSTER_PACKAGES, IMAGE_PACKAGES, TEST_PACKAGES


def parser() -> argparse.ArgumentParser:
    """The verbs."""
    top = argparse.ArgumentParser(
        prog="python -m lab",
        description="A real three-node Kubernetes cluster in network namespaces of this machine.",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text)

    verb("up", "bring the cluster up, or repair it")
    verb("down", "take the cluster away and all it left on the machine")
    verb("status", "say what runs and what does not; exit status 1 if something does not")
    verb("build", "build the tools and the images into the cache")
    verb("images", "build the images into the cache and load them into the running nodes")
    verb("packages", "install the Debian packages that the lab, its images and the tests need")
    verb("kubeconfig", "print the path of the administrator's kubeconfig")
    demo_verb = verb("demo", "deploy the demo stack and say what to try")
    demo_verb.add_argument("--down", action="store_true", help="undo it")
    shell = verb("shell", "a shell, or a command, that sees the cluster: kubectl, pulumi, psql")
    shell.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD")

    node = verb("node", "cut a node off the network, or mend it")
    node.add_argument("action", choices=["cut", "mend", "cut-api", "mend-api"])
    node.add_argument("number", type=int)

    for name, text in (
        ("pause", "freeze a pod's container: no process of it runs"),
        ("resume", "thaw a pod's container"),
        ("cut-api", "cut a pod from the API server alone"),
        ("mend-pod", "undo the cuts of a pod"),
        ("kill", "send a signal to the processes of a pod's container"),
    ):
        on_pod = verb(name, text)
        on_pod.add_argument("pod")
        on_pod.add_argument("-n", "--namespace", default="default")
        on_pod.add_argument("-c", "--container", default="", help="default: the first")
        if name == "kill":
            on_pod.add_argument("-s", "--signal", default="KILL", help="default: KILL")
            on_pod.add_argument("-m", "--matching", default="", help="part of the command line")
            on_pod.add_argument("-a", "--all", action="store_true", help="not the first alone")

    for name, text in (
        ("stop", "end a daemon of the control plane"),
        ("start", "start a daemon of the control plane"),
        ("hang", "SIGSTOP any daemon of the lab"),
        ("wake", "SIGCONT any daemon of the lab"),
    ):
        verb(name, text).add_argument("daemon")
    verb("mend", "undo every fault and start every daemon that does not run")
    return top


def main(arguments: list[str]) -> int:
    """Run one verb; its exit status."""
    options = parser().parse_args(arguments)
    lab = Lab()
    match options.verb:
        case "up":
            lab.up()
        case "down":
            lab.down()
        case "status":
            return _status(lab)
        case "build":
            lab.build()
        case "images":
            lab.load_images()
        case "packages":
            install_packages((*CLUSTER_PACKAGES, *IMAGE_PACKAGES, *TEST_PACKAGES))
        case "kubeconfig":
            print(lab.kubeconfig)
        case "demo":
            return demo.tear_down(lab) if options.down else demo.run(lab)
        case "shell":
            return _shell(lab, options.command)
        case "node":
            _node(lab, options.action, options.number)
        case "stop":
            lab.control_plane.stop(options.daemon)
        case "start":
            lab.control_plane.start(options.daemon)
        case "hang":
            lab.faults.hang(options.daemon)
        case "wake":
            lab.faults.wake(options.daemon)
        case "mend":
            lab.mend()
        case _:
            _pod(lab, options)
    return 0


def _status(lab: Lab) -> int:
    states = lab.status()
    for state in states:
        print(f"{'ok ' if state.healthy else 'BAD'} {state.name:28} {state.detail}")
    return 0 if all(state.healthy for state in states) else 1


def _shell(lab: Lab, command: list[str]) -> int:
    """Replaces this process, so that signals and the exit status are the command's own."""
    if not lab.network.whole():
        raise LabError("The lab is not up: bring it up with `python -m lab up`.")
    command = command[1:] if command[:1] == ["--"] else command
    environment = lab.env()
    if not command:
        environment["PS1"] = f"({lab.layout.name}) \\w \\$ "
        command = ["bash", "--norc", "-i"]
        say("kubectl, pulumi and psql work in this shell; leave it with exit")
    line = [*lab.exec_prefix(), *command]
    os.execvpe(line[0], line, environment)


def _node(lab: Lab, action: str, number: int) -> None:
    match action:
        case "cut":
            lab.cut_node(number)
        case "mend":
            lab.mend_node(number)
        case "cut-api":
            lab.faults.cut_node_api(number)
        case "mend-api":
            lab.faults.mend_node_api(number)


def _pod(lab: Lab, options: argparse.Namespace) -> None:
    container = lab.container(options.pod, options.namespace, options.container)
    match options.verb:
        case "pause":
            container.freeze()
        case "resume":
            container.thaw()
        case "cut-api":
            lab.faults.cut_pod_api(container)
        case "mend-pod":
            lab.faults.mend_pod(container)
        case "kill":
            try:
                number = signal.Signals[f"SIG{options.signal.removeprefix('SIG')}"]
            except KeyError:
                raise LabError(f"There is no signal {options.signal}: try KILL or TERM.") from None
            hit = container.signal(number, options.matching, first=not options.all)
            say(f"sent {number.name} to {hit or 'no process'}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LabError as error:
        say(str(error))
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        say(f"`{' '.join(map(str, error.cmd))}` failed with status {error.returncode}.")
        sys.exit(2)
