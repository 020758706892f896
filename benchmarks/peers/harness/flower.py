"""Flower 1.42: SuperLink, a client and a ServerApp's grid as processes of their own.

Protocol level: what each side calls, without the three seconds both sleep between polls. As
shipped: `send_and_receive`, and a client that sleeps as a SuperNode does. `--database` makes the
SuperLink keep objects in SQLite; without it they are in memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import payload

SLEEP_S = 3.0  # of a SuperNode between polls, and of send_and_receive
POLL_S = 0.02
HEARTBEAT_S = 15.0


def server(directory: Path, port: int) -> None:
    import uvicorn
    from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
    from flwr.superlink.main import create_app

    app = create_app()
    state = app.state.linkstate_factory.state()
    run = state.create_run(
        "a/b", "1.0.0", "0" * 64, {}, NOOP_FEDERATION_ID, None, "<id:none>", TaskType.SERVER_APP
    )
    task = state.get_run_info(run_ids=[run])[0].primary_task_id
    token = state.claim_task(task)
    state.activate_task(task)
    payload.leave(directory / "run.json", {"run": run, "task": task, "token": token})

    def stay_alive() -> None:
        # As the process of a ServerApp does; a task that is not heard of for a minute is over.
        while True:
            state.acknowledge_task_heartbeat(task)
            time.sleep(HEARTBEAT_S)

    threading.Thread(target=stay_alive, daemon=True).start()
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


def client(options: object, directory: Path, port: int, shipped: bool) -> None:
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.supercore.inflatable.inflatable_object import (
        get_all_nested_objects,
        get_object_tree,
        no_object_id_recompute,
    )
    from flwr.supercore.inflatable.inflatable_utils import (
        pull_and_inflate_object_from_tree,
        push_objects,
    )
    from flwr.supercore.task_identity import TaskIdentity
    from flwr.supernode.fleet_http_connection import http_request_response

    run = payload.await_document(directory / "run.json")["run"]
    with http_request_response(f"127.0.0.1:{port}", insecure=True) as connection:
        node, receive, send, _, _, pull, push, confirm = connection
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, run, node
        repeat = 0
        while repeat < options.repeats:
            got = receive()
            if got is None:
                time.sleep(SLEEP_S if shipped else POLL_S)
                continue
            head, tree = got
            message = pull_and_inflate_object_from_tree(
                tree,
                lambda object_id: pull(run, object_id),
                lambda object_id: confirm(run, object_id),
                return_type=Message,
            )
            message.metadata.__dict__.update(head.metadata.__dict__)
            values = payload.arrays(options.megabytes, options.tensors, repeat)
            began = time.time()
            record = ArrayRecord({f"t{i}": Array(a) for i, a in enumerate(values)})
            content = RecordDict(
                {"arrays": record, "metrics": MetricRecord({"num-examples": 10.0})}
            )
            reply = Message(content, reply_to=message)
            with no_object_id_recompute():
                reply.metadata._message_id = reply.object_id
                objects, tree = get_all_nested_objects(reply), get_object_tree(reply)
                serialised = time.time()
                needed, session = send(reply, tree, 0.0)
                push_objects(
                    objects,
                    lambda name, data, session=session: push(run, session, name, data),
                    object_ids_to_push=needed,
                )
            payload.leave(
                directory / f"sent-{repeat}.json",
                {"began": began, "serialised": serialised, "sent": time.time()},
            )
            repeat += 1
        # A node that leaves takes the replies along that nobody has pulled yet.
        payload.await_document(directory / "done.json")


def grid(options: object, directory: Path, port: int, shipped: bool) -> None:
    from flwr.app import ConfigRecord, Message, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
    from flwr.supercore.task_identity import TaskIdentity
    from flwr.superlink.grid import HttpGrid

    about = payload.await_document(directory / "run.json")
    link = HttpGrid(f"127.0.0.1:{port}", insecure=True, token=about["token"])
    link._run = SimpleNamespace(run_id=about["run"])
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = about["task"], about["run"], 1
    while not (nodes := list(link.get_node_ids())):
        time.sleep(POLL_S)
    correct = True
    for repeat in range(options.repeats):
        question = Message(
            RecordDict({"config": ConfigRecord({"repeat": repeat})}),
            dst_node_id=nodes[0],
            message_type="train",
        )
        if shipped:
            replies = list(link.send_and_receive([question]))
            sent = payload.await_document(directory / f"sent-{repeat}.json")
            pulled = time.time()
        else:
            ids = list(link.push_messages([question]))
            sent = payload.await_document(directory / f"sent-{repeat}.json")
            asked = time.time()
            while not (replies := list(link.pull_messages(ids))):
                time.sleep(POLL_S)
            pulled = time.time()
        for reply in replies:
            if reply.has_error():
                raise SystemExit(f"repeat {repeat}: the reply is an error: {reply.error}")
        total = aggregate_arrayrecords([reply.content for reply in replies], "num-examples")
        ended = time.time()
        seconds = {"as_shipped": ended - sent["began"]}
        if not shipped:
            seconds = {
                "serialise": sent["serialised"] - sent["began"],
                "upload": sent["sent"] - sent["serialised"],
                "visible": pulled - asked,
                "aggregate": ended - pulled,
            }
        payload.report(repeat=repeat, seconds=seconds)
        due = payload.arrays(options.megabytes, options.tensors, repeat)
        found = [total[f"t{i}"].numpy() for i in range(len(due))]
        correct = correct and payload.is_close(found, due)
    payload.leave(directory / "done.json", {})
    payload.report(version=version("flwr"), correct=correct)


def main() -> None:
    parser = payload.arguments("Flower")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", action="store_true")
    parser.add_argument("--shipped", action="store_true")
    options = parser.parse_args()
    roles = {
        "server": lambda: server(options.directory, options.port),
        "client": lambda: client(options, options.directory, options.port, options.shipped),
        "grid": lambda: grid(options, options.directory, options.port, options.shipped),
    }
    if options.role != "driver":
        roles[options.role]()
        return
    place = options.directory / "superlink.db" if options.database else ":flwr-in-memory:"
    environment = {**os.environ, "FLWR_DATABASE": str(place), "FLWR_TELEMETRY_ENABLED": "0"}
    command = [sys.executable, *sys.argv]
    children = [
        subprocess.Popen([*command, "--role", role], env=environment, stdout=subprocess.DEVNULL)
        for role in ("server", "client")
    ]
    try:
        done = subprocess.run([*command, "--role", "grid"], env=environment, check=False)
    finally:
        for child in children:
            child.kill()
            child.wait()
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
