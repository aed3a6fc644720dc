"""A plugin whose handlers end the event loop, replace signal handlers and close streams."""

from __future__ import annotations

CODE = """
    import asyncio, atexit, ctypes, fcntl, os, signal, sys, threading, time
    import anyio
    from streamer_worker import handler

    if "SMALL_PIPE" in os.environ:
        fcntl.fcntl(2, fcntl.F_SETPIPE_SZ, 4096)

    HOOK = float(os.environ.get("HOOK_SECONDS", "0"))

    def hook():
        time.sleep(HOOK)
        with open(os.environ["HOOK_FILE"], "w") as done:
            done.write("done")

    if "HOOK_FILE" in os.environ:
        atexit.register(hook)

    def graceful():
        raise SystemExit(1)

    class Raises:
        async def raise_(self, error):
            raise error

    async def in_a_task(error):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Raises().raise_, error)

    def cancel_all():
        for task in asyncio.all_tasks():
            task.cancel()

    def alarm(number, frame):
        if frame.f_code.co_name != "select":
            set_alarm()  # a task would get the exception: only a loop that waits is ended by it
            return
        raise TimeoutError("alarm")

    def set_alarm():
        signal.signal(signal.SIGALRM, alarm)
        signal.setitimer(signal.ITIMER_REAL, 0.2)

    HOW = {
        "interrupt": lambda: in_a_task(KeyboardInterrupt()),
        "exit": lambda: in_a_task(SystemExit(0)),
        "interrupt_soon": lambda: asyncio.get_running_loop().call_soon(
            lambda: (_ for _ in ()).throw(KeyboardInterrupt)
        ),
        "stop": lambda: asyncio.get_running_loop().stop(),
        "cancel_all": cancel_all,
        "alarm": set_alarm,
        "exit_at_once": lambda: os._exit(0),
        "aiohttp": lambda: asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, graceful),
        "aiohttp_left": lambda: (
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, graceful),
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM),
        ),
        "ignore": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        "default": lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        "stdout_none": lambda: setattr(sys, "stdout", None),
        "stdout_closed": lambda: sys.stdout.close(),
        "stderr_closed": lambda: sys.stderr.close(),
        "stderr_none": lambda: setattr(sys, "stderr", None),
        "descriptors_closed": lambda: (os.close(1), os.close(2)),
        "all_descriptors": lambda: os.dup2(os.open(os.devnull, os.O_RDWR), 2),
        "print": lambda: print("x" * 100),
    }

    @handler("do")
    async def do(payload, ctx):
        done = HOW[payload["how"]]()
        if asyncio.iscoroutine(done):
            await done
        if payload.get("wait"):
            await anyio.sleep(60)

    @handler("swallow")
    async def swallow(payload, ctx):
        await ctx.progress(0.5)
        while True:
            try:
                await anyio.sleep(60)
            except BaseException:
                pass

    @handler("leave_thread")
    async def leave_thread(payload, ctx):
        threading.Thread(target=time.sleep, args=(60,)).start()

    @handler("hold")
    def hold(payload, ctx):
        ctypes.PyDLL(None).sleep(60)

    @handler("block")
    async def block(payload, ctx):
        time.sleep(60)
"""
ENTRIES = [f"{name} = ends:{name}" for name in ("do", "swallow", "leave_thread", "hold", "block")]
