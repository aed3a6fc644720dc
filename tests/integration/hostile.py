"""A plugin whose handlers fork, leave threads behind, and change the state of their process.

Each payload has a `token`. Every handler answers with the token, and with the data of other
requests that it could see: contextvars, decimal's context, log fields, checkpoints.
"""

from __future__ import annotations

from typing import Final

HOSTILE: Final = '''
    import contextvars, decimal, logging, multiprocessing, os, signal, subprocess, sys
    import threading, time
    import anyio
    import structlog
    from streamer_worker import HandlerCancelled, handler

    fork = multiprocessing.get_context("fork")
    own = contextvars.ContextVar("own", default=None)

    def forks(how, ctx):
        """Return in the parent; in the child do what `how` says."""
        pid = os.fork()
        if pid:
            return pid
        if how == "exit":
            sys.exit(7)
        if how == "raise":
            raise ValueError("a forked child")
        if how == "progress":
            ctx.progress(0.9, "a forked child")
        return None

    def waited(pid):
        """Return how the child has ended; None when it is still there after ten seconds."""
        for _ in range(10_000):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None

    def sleeps():
        while True:
            time.sleep(60)

    def terminated():
        child = fork.Process(target=sleeps)
        child.start()
        child.terminate()
        child.join(10)
        code = child.exitcode
        if code is None:
            child.kill()
            child.join()
        return code

    def is_busy(write):
        os.write(write, b"x")
        sleeps()

    def leave_busy_pool():
        read, write = os.pipe()
        with fork.Pool(1) as pool:
            pool.apply_async(is_busy, [write])
            os.read(read, 1)
            processes = list(pool._pool)
        pool.join()
        os.close(read)
        os.close(write)
        return processes[0].exitcode

    def run_subprocess():
        with subprocess.Popen(["/bin/sleep", "60"]) as child:
            child.terminate()
            return child.wait(10)

    def swap_state(payload):
        """Return the state that an earlier request left, and leave this request's state."""
        left = {
            "var": own.get(),
            "precision": decimal.getcontext().prec,
            "fields": dict(structlog.contextvars.get_contextvars()).get("leaked"),
        }
        own.set(payload["token"])
        decimal.getcontext().prec = 3
        structlog.contextvars.bind_contextvars(leaked=payload["token"])
        return left

    def late(ctx, token):
        """Leave a thread behind that uses the context after the request has ended."""
        def work():
            for _ in range(3):
                time.sleep(0.002)
                try:
                    ctx.progress(0.99, token)
                    ctx.checkpoint({"token": token})
                except HandlerCancelled:
                    pass
        threading.Thread(target=work).start()

    def misbehave(payload, ctx):
        how = payload["how"]
        if how in {"return", "exit", "raise", "progress"}:
            pid = forks(how, ctx)
            return "child" if pid is None else waited(pid)
        if how == "late":
            late(ctx, payload["token"])
        elif how == "terminate":
            return terminated()
        elif how == "pool":
            return leave_busy_pool()
        elif how == "subprocess":
            return run_subprocess()
        return None

    def answer(payload, ctx, code):
        logging.getLogger("hostile").warning("answered", extra={"token": payload["token"]})
        checkpoint = ctx.last_checkpoint
        return {
            "token": payload["token"],
            "id": ctx.request_id,
            "pid": os.getpid(),
            "code": code,
            "checkpoint": checkpoint and checkpoint["token"],
        }

    @handler("process", process=True)
    def in_process(payload, ctx):
        left = swap_state(payload)
        return answer(payload, ctx, misbehave(payload, ctx)) | {"left": left}

    @handler("thread")
    def in_thread(payload, ctx):
        left = swap_state(payload)
        return answer(payload, ctx, misbehave(payload, ctx)) | {"left": left}

    @handler("task")
    async def in_task(payload, ctx):
        left = swap_state(payload)
        how, code = payload["how"], None
        if how in {"return", "exit", "raise"}:
            pid = forks(how, ctx)
            if pid is None:
                return None
            code = waited(pid)
        elif how in {"await", "task", "to_thread", "progress"}:
            code = await awaits(how, ctx)
        elif how in {"terminate", "pool", "subprocess"}:
            code = misbehave(payload, ctx)
        return answer(payload, ctx, code) | {"left": left}

    async def awaits(how, ctx):
        pids = []
        async def forker():
            pids.append(os.fork())
            await anyio.sleep(0)
        if how == "await":
            await forker()
        elif how == "progress":
            pids.append(os.fork())
            if pids == [0]:
                await ctx.progress(0.9, "a forked child")
        elif how == "to_thread":
            await anyio.to_thread.run_sync(lambda: pids.append(os.fork()))
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(forker)
        if pids == [0]:
            return "a forked child went on"
        return await anyio.to_thread.run_sync(waited, pids[0])

    def began(child):
        logging.getLogger("hostile").warning("began", extra={"child": child.pid})

    @handler("forks_on")
    def forks_on(payload, ctx):
        child = fork.Process(target=sleeps)
        child.start()
        began(child)
        child.join()

    @handler("starts_more", process=True)
    def starts_more(payload, ctx):
        with subprocess.Popen(["/bin/sleep", "600"]) as child:
            began(child)
            child.wait()

    async def around(call, request, ctx):
        structlog.contextvars.bind_contextvars(bound=request.payload["token"])
        return await call(request, ctx)
'''
HOSTILE_ENTRIES: Final = (
    "process = hostile:in_process",
    "thread = hostile:in_thread",
    "task = hostile:in_task",
    "forks_on = hostile:forks_on",
    "starts_more = hostile:starts_more",
    "[streamer_worker.middleware]",
    "around = hostile:around",
)
_FORKS: Final = (
    "return",
    "exit",
    "raise",
    "progress",
    "terminate",
    "subprocess",
    "pool",
)
WAYS: Final = {
    "process": ("", "late", *_FORKS),
    "thread": ("", "late", *_FORKS),
    "task": ("", "await", "task", "to_thread", *_FORKS),
}
WEIGHTS: Final = {
    "process": (10, 6, 1, 1, 1, 1, 1, 1, 0.2),
    "thread": (10, 6, 1, 1, 1, 1, 1, 1, 0.2),
    "task": (16, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0.2),
}
# How the forked child ends that each way waits for.
CODES: Final = {
    "return": 0,
    "exit": 7,
    "raise": 1,
    "progress": 1,
    "await": 1,
    "task": 1,
    "to_thread": 1,
    "terminate": -15,
    "pool": -15,
    "subprocess": -15,
}
