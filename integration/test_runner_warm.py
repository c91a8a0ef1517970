"""Warm shells: nothing that a task does tells them from fresh ones, and none of them is special."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from itertools import pairwise
from pathlib import Path

from integration.runner_harness import Bench, running
from leoronic.core.outcome import Outcome

# Each alone, then each followed by the next: as what one leaves behind shows in another.
SCRIPTS = r"""
echo "$-" "$0" "$#" "$*" "$?" "[$_]"
echo $SHELLOPTS; echo $BASHOPTS; shopt; shopt -o
set -o
umask; umask 077; umask
pwd; cd /; pwd; echo $OLDPWD
trap; trap 'echo bye' EXIT; trap
trap 'echo usr' USR1; kill -USR1 $BASHPID; echo after
trap 'echo err' ERR; false; true
trap 'echo bye; exit 7' EXIT; exit 3
trap 'echo dbg' DEBUG; :
set -e; false; echo not reached
set -e; if false; then :; fi; echo reached
set -u; echo $undefined_variable; echo not reached
set -o pipefail; false | true; echo $?
set -x; echo traced; set +x
set -f; echo /et*; set +f; echo /etc/host*
set -C; echo x >/dev/null; echo $?
set -a; made=1; env | grep ^made
set -- a b "c d"; echo $# "$3"; shift; echo $1
exit
exit 0
exit 1
exit 42
exit 127
exit 128
exit 129
exit 143
exit 200
exit 255
exit 256
exit -1
false
(exit 5)
(exit 5); echo $?
kill -TERM $BASHPID; echo not reached
kill -KILL $BASHPID
kill -INT $BASHPID; echo not reached
kill -HUP $BASHPID; echo not reached
kill -ABRT $BASHPID; echo not reached
kill -USR2 $BASHPID; echo not reached
kill -PIPE $BASHPID; echo not reached
kill 0; sleep 1
exec true
exec false
exec sh -c 'exit 9'
exec sh -c 'echo replaced'; echo not reached
exec nosuchprogram; echo not reached
exec 2>&1; echo to out >&2
exec >/dev/null; echo lost
exec 5>&1; echo five >&5; exec 5>&-
exec 7</dev/null; read -r x <&7; echo $?
nosuchcommand
nosuchcommand; echo $?
/nosuch/path
/etc/passwd
cat </nosuch/file
echo x >/nosuch/file
ls -l /proc/self/fd | wc -l
ls /proc/self/fd
grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status
cat /proc/self/stat | cut -d' ' -f7
grep -E '^Groups|^Uid|^NoNewPrivs|^Seccomp:' /proc/self/status
ulimit -a
nice; cat /proc/self/oom_score_adj
readlink /proc/self/fd/0 /proc/self/cwd
cat; echo $?
read -r line; echo "$? [$line]"
test -t 0 -o -t 1 -o -t 2; echo $?
tty
jobs; sleep 0.01 & jobs -p | wc -l; wait; jobs
sleep 0.01 & wait; echo $?
false & wait -n; echo $?
sleep 0.05 & kill %1; wait
sleep 0.05 & kill %1; wait %1; echo $?
bg; echo $?
fg; echo $?
fg %1
set -m; sleep 0.01 & wait; echo $-; set +m; echo $-
set -m; cut -d' ' -f5 /proc/self/stat | grep -c .
coproc cat; echo hi >&${COPROC[1]}; read -r x <&${COPROC[0]}; echo $x
f() { echo "in f $1 $FUNCNAME"; return 4; }; f x; echo $?
f() { local a=1; g; echo $a; }; g() { a=2; }; f; echo ${a-unset}
declare -F; declare -f | wc -l
alias; alias x='echo aliased'; x
shopt -s expand_aliases; alias y='echo aliased'
y
hash; ls / >/dev/null; hash | wc -l
return 3; echo after $?
break; echo $?
local a; echo $?
logout; echo $?
suspend; echo $?
history; echo $?
fc -l; echo $?
bind -l; echo $?
enable -n echo; enable | wc -l
builtin nosuch; echo $?
command -v ls cd; type cd
type -t if; type -a true
compgen -v | grep -E '^(L|R|S|P|REQ|LEN)$'
env | grep -vE '^(LEORONIC_|_=)' | sort
env | grep ^_=
declare -x | grep -v LEORONIC | wc -l
declare -r | grep -v BASHOPTS
declare -i n=5; n+=3; echo $n
declare -A m=([a]=1 [b]=2); echo ${#m[@]} ${m[b]}
a=(1 2 3); echo ${a[@]:1} ${#a[@]} ${!a[@]}
readonly r=1; r=2; echo not reached
unset HOME; cd; echo $?
HOME=/tmp; cd; pwd; echo ~
IFS=:; x=a:b:c; echo $x; set -- $x; echo $#
PATH=/nosuch; ls
PATH=; ls; echo $?
LC_ALL=C; printf '%s\n' ${LC_ALL}; unset LC_ALL
printf '%d\n' abc; echo $?
printf '%q ' "it's" $'tab\t' é; echo
printf '\000\001\377' | od -c
printf '%s' "no newline at end"
echo -n; echo -e 'a\tb\\n'; echo 'back\slash'
echo 'single "double" $dollar `tick`' "double 'single'"
echo "$(echo nested "$(echo deeper)")" `echo ticks`
echo $((1 + 2 * 3)) $((7 / 0)); echo not reached
echo $((16#ff)) $((010)) $((2 ** 10))
let x=5-5; echo $?
((0)); echo $?; ((1)); echo $?
[[ abc == a* && x =~ ^(x)$ ]]; echo $? ${BASH_REMATCH[1]-}
[ a = b ]; echo $?; [ -d / ]; echo $?; [ ]; echo $?
if; then
echo (
echo "unfinished
for i in 1 2 3; do echo $i; done
for ((i = 0; i < 3; i++)); do echo $i; continue; done; echo done
while read -r a b; do echo "$b $a"; done <<< $'1 2\n3 4'
until true; do :; done; echo $?
case abc in a*) echo yes;; *) echo no;; esac
select x in a b; do echo $x; break; done </dev/null
cat <<< "here string $HOME"
mapfile -t lines < <(printf 'a\nb\n'); echo ${#lines[@]}
diff <(echo a) <(echo b); echo $?
echo a | tee /dev/stderr | tr a b
yes | head -n 2
echo err >&2; echo out; echo err2 >&2
echo {1..5} {a..c}{1,2} ~ ~root
echo * | wc -w
echo ${x:-default} ${x:=set} $x ${x:+alt} ${#x} ${x/s/S} ${x^^}
echo ${x?message}; echo not reached
v=ref; ref=val; echo ${!v}; declare -n n=ref; echo $n
eval 'echo evaluated; exit 6'
eval 'exit'; echo not reached
time -p true 2>/dev/null; echo $?
sleep 0.02; echo slept
{ echo group; } ; ( echo subshell; exit 2 ); echo $?
! true; echo $?
true && echo and || echo or
false || exit 17
: ; echo $?
test -e /proc/self; echo $?
getopts ab: opt -a; echo $opt $OPTIND
read -r -t 0.01 x; echo $?
wait 999999; echo $?
kill -0 999999; echo $?
kill -l 15
ulimit -n 64; ulimit -n
ulimit -c; ulimit -u >/dev/null; echo $?
printf '%(%Y)T\n' 0
echo $EUID $UID $HOSTTYPE $OSTYPE
v=BASH; v+=_SUBSHELL; echo ${!v}
set | grep -E '^(IFS|PS4|OPTIND|TERM|OPTERR)='
compopt; echo $?
sh -c 'echo $0 $#'; bash -c 'echo $-'
python3 -c 'import signal as s; print(s.getsignal(s.SIGPIPE), s.getsignal(s.SIGINT))'
python3 -c 'import sys; sys.exit(3)'
python3 -c 'import os; os.write(1, b"x" * 100000)' | wc -c
seq 20000
head -c 300000 /dev/zero
sleep 0.05 & echo background
(sleep 0.05; echo late) & echo early
# only a comment
if true; then echo "a"; fi # comment at the end
printf '%s\n' 'ünïcödé 漢字 🙂' "$(printf '\303\251')"
""".strip().splitlines()
SCRIPTS += [
    "",
    " ",
    "\n\n",
    "echo one\necho two\nfalse\n",
    "cat <<END\n$HOME\n\tindented `echo x` \\$y\nEND\n",
    "cat <<'END'\n$HOME 'quoted'\nEND",
    "echo line \\\n  continued",
    "echo 'multi\nline\n\nstring'",
    "f() {\n  echo in f\n  nosuch_in_f\n}\n\nf\nnosuch_on_line_7",
    "echo a\n\n\nnosuch_on_line_4",
    "echo 'it'\\''s' \"\\\"quoted\\\"\"",
    "\techo tab\t",
    "echo bell \x07 escape \x1b delete \x7f",
    "echo " + "x" * 10_000,
    "echo \\\\ \\' \\\" '\\' \"\\\\\"",
    "!\n",
    "echo \r",
]
# Two commands may see each other's output in either order, and these race on purpose.
ALONE = ("kill 0", "suspend", "bg", "coproc", "sleep 0.05 & echo background", "echo $((1")


def scripts() -> list[str]:
    """A few hundred."""
    calm = [s for s in SCRIPTS if not s.startswith(ALONE) and "<<" not in s]
    return SCRIPTS + [f"{first}\n{second}" for first, second in pairwise(calm)]


def plain(text: bytes) -> bytes:
    """Without the word by which `eval` shows in messages."""
    text = text.replace(b"bash: eval: line ", b"bash: line ")
    return text.replace(b"bash: -c: line ", b"bash: line ")


def seen(bench: Bench, outcome: Outcome) -> tuple[object, ...]:
    """What a user can see of an outcome."""
    status = outcome.exit_code if outcome.signal is None else 128 + outcome.signal
    return (
        status,
        outcome.reason,
        outcome.stragglers,
        plain(bench.content(outcome.stdout)),
        plain(bench.content(outcome.stderr)),
    )


async def test_same_as_fresh() -> None:
    """A few hundred scripts end the same way and print the same in a warm shell and a fresh one."""
    async with running(warm_after_starts=0, linger_s=1.0, use_cgroups=False) as bench:
        differing = []
        warm_count = 0
        for script in scripts():
            fresh = await bench.start(script, fresh_shell=True)
            warm = await bench.start(script)
            live = bench.actor._live.get(warm)
            warm_count += live is not None and live.shell is not None
            expected = seen(bench, await bench.outcome(fresh))
            actual = seen(bench, await bench.outcome(warm))
            if expected != actual:
                differing.append(f"{script!r}\n  fresh {expected}\n  warm  {actual}")
        assert not differing, f"{len(differing)} of {len(scripts())}:\n" + "\n".join(differing)
        assert warm_count > 250


async def test_dead_warm_shell() -> None:
    """When a warm shell is killed its task goes on, others notice nothing, and a new one starts."""
    async with running(warm_after_starts=0, warm_shells_max=2, linger_s=1.0) as bench:
        first = await bench.start("echo a; sleep 0.5; echo b; exit 3")
        second = await bench.start("sleep 0.6; echo c")
        await bench.read(first, wait_s=5)
        shell = bench.actor._live[first].shell
        assert shell is not None
        os.kill(shell.pid, signal.SIGKILL)
        outcome = await bench.outcome(first)
        assert (b"a\nb\n", 3) == (outcome.stdout.inline, outcome.exit_code)
        assert b"c\n" == (await bench.outcome(second)).stdout.inline
        assert shell not in bench.actor._warm.all
        assert b"d\n" == (await bench.run("echo d")).stdout.inline


async def test_warm_shell_dies_after_its_task() -> None:
    """A warm shell that is killed while late output is waited for changes nothing any more."""
    async with running(warm_after_starts=0, linger_s=1.0) as bench:
        key = await bench.start("(sleep 0.4; echo late) & exit 6")
        live = bench.actor._live[key]
        shell = live.shell
        assert shell is not None
        await bench.until(lambda: live.shell_gone, 5, "the end of the shell")
        os.kill(shell.pid, signal.SIGKILL)
        outcome = await bench.outcome(key)
        assert (b"late\n", 6, 0) == (outcome.stdout.inline, outcome.exit_code, outcome.stragglers)


async def test_descriptor_limit_is_the_nodes(tmp_path: Path) -> None:
    """The runner may open many files; its tasks have the limit that the node was started with."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        async with running(tmp_path, warm_after_starts=0) as bench:
            keys = [await bench.start("sleep 1; ulimit -Sn") for _ in range(250)]
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 512
            for key in [*keys, await bench.start("ulimit -Sn", fresh_shell=True)]:
                outcome = await bench.outcome(key)
                assert ("", b"512\n") == (outcome.reason, outcome.stdout.inline)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_idle_warm_shell_is_killed() -> None:
    """A warm shell that dies while idle is not used again."""
    async with running(warm_after_starts=0) as bench:
        await bench.run("true")
        (shell,) = bench.actor._warm.all
        os.kill(shell.pid, signal.SIGKILL)
        for _ in range(5):
            assert b"hi\n" == (await bench.run("echo hi")).stdout.inline


async def test_lazy_and_short_lived(tmp_path: Path) -> None:
    """No warm shell for a single task; some for many; none when they were idle for long."""
    async with running(tmp_path, warm_idle_s=0.3) as bench:
        await bench.run("true")
        assert not bench.actor._warm.all
        for _ in range(6):
            await bench.run("true")
        assert bench.actor._warm.all
        await bench.until(lambda: not bench.actor._warm.all, 5, "the end of the warm shells")
        await bench.until(lambda: not bench.actor._trees.children(), 2, "the last child's end")


async def test_stopped_task_does_not_spin() -> None:
    """While a task is stopped, its warm shell waits without using the processor."""
    async with running(warm_after_starts=0, linger_s=1.0) as bench:
        key = await bench.start("echo $BASHPID; kill -STOP $BASHPID; echo went on; exit 4")
        pid = int((await bench.read(key, wait_s=5)).data)
        shell = bench.actor._live[key].shell
        assert shell is not None
        await asyncio.sleep(0.3)
        ticks = Path(f"/proc/{shell.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        assert sum(map(int, ticks)) < 5
        os.kill(pid, signal.SIGCONT)
        outcome = await bench.outcome(key)
        assert (4, f"{pid}\nwent on\n".encode()) == (outcome.exit_code, outcome.stdout.inline)
