//! A child process that is stopped at every system call: it may be killed there, or be told that the call failed.

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid, pipe};
use std::fs::File;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Before the kernel carries out a call, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Entry,
    Exit,
}

/// What happens to the child; `call` counts its system calls from 0.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Nothing,
    Kill {
        call: usize,
        side: Side,
    },
    /// The call is not carried out and answers this.
    Fail {
        call: usize,
        errno: Errno,
    },
}

/// A system call that a child made.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    number: c_long,
    /// Of `mmap` the file, the only one whose arguments matter here.
    mapped: i32,
}

/// What became of a child.
#[derive(Debug)]
pub struct Run {
    /// Up to [`mark`]; where there was a fault, up to that.
    pub calls: Vec<Call>,
    /// What the body said; `None` of one that was killed.
    pub said: Option<String>,
}

/// In a body: what is traced ends here. farmcast itself never makes this call.
pub fn mark() {
    getppid();
}

/// Keeps this process and its children on one of the processors that it may use, the `nth`, round about: child and
/// tracer take turns, and each turn costs a fraction of what it does across processors.
pub fn stay_on_one_processor(nth: usize) {
    let me = Pid::from_raw(0);
    let allowed = sched_getaffinity(me).expect("the processors of this process");
    let usable: Vec<_> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)).collect();
    let mut one = CpuSet::new();
    one.set(usable[nth % usable.len()]).expect("a processor");
    sched_setaffinity(me, &one).expect("one of those that it may use");
}

/// Why no child can be traced here, if none can.
pub fn refusal() -> Option<String> {
    // SAFETY: no other thread of this process holds a lock; the child calls the kernel and ends.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            let refused = ptrace::traceme().is_err() || raise(Signal::SIGSTOP).is_err();
            // SAFETY: ends the child at once, without what the test harness registered for its own end.
            unsafe { libc::_exit(i32::from(refused)) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).expect("the child stops or ends") {
            WaitStatus::Stopped(..) => {
                let refused = ptrace::setoptions(child, Options::PTRACE_O_EXITKILL).err();
                kill(child, Signal::SIGKILL).expect("it lives");
                waitpid(child, None).expect("its end");
                refused.map(|errno| format!("no process can be followed here: {errno}"))
            }
            _ => Some("no process can be traced here".to_owned()),
        },
    }
}

/// What a child that is watched did.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// A call behind which files may be others.
    Call {
        call: Call,
        /// Its first argument.
        descriptor: i32,
        worked: bool,
    },
    Mark,
}

/// Runs `body` in a child process under `fault`. A panic in it is said as such.
///
/// To be called from a process without other threads at work, for the child goes on with a copy of it.
pub fn run(fault: Fault, body: impl FnOnce() -> String) -> Run {
    let (child, mut words) = start(body);
    let calls = trace(child, fault);
    let mut said = String::new();
    words.read_to_string(&mut said).expect("its last words");
    let end = waitpid(child, None).expect("its end");
    let said = match (end, fault) {
        (WaitStatus::Exited(_, 0), _) => Some(said),
        (WaitStatus::Signaled(_, Signal::SIGKILL, _), Fault::Kill { .. }) => None,
        _ => panic!("{fault:?}: the child ended as {end:?}, saying {said:?}"),
    };
    Run { calls, said }
}

/// Runs `body` as [`run`] does, and shows `look` the child behind each deed of its, up to the last of so many marks,
/// the one behind the body included. Returns what the body said.
pub fn watch(marks: usize, body: impl FnOnce() -> String, mut look: impl FnMut(Pid, Deed)) -> String {
    let (child, mut words) = start(body);
    let mut left = marks;
    let mut said = String::new();
    while left > 0 {
        let entered = next_stop(child, |regs| (Call::of(regs), regs.rdi as i32));
        let left_it = next_stop(child, |regs| regs.rax as i64 >= 0);
        let (Some((call, descriptor)), Some(worked)) = (entered, left_it) else {
            words.read_to_string(&mut said).expect("its last words");
            panic!("the child ended before its last mark, saying {said:?}");
        };
        if call.number == libc::SYS_getppid {
            left -= 1;
            look(child, Deed::Mark);
        } else if call.changes_files() || call.opens_files() {
            look(child, Deed::Call { call, descriptor, worked });
        }
    }
    ptrace::cont(child, None).expect("it goes on");
    words.read_to_string(&mut said).expect("its last words");
    let end = waitpid(child, None).expect("its end");
    assert_eq!(end, WaitStatus::Exited(child, 0), "it said {said:?}");
    said
}

/// A child that runs `body`, stopped before its first call, and where it will say what the body did.
fn start(body: impl FnOnce() -> String) -> (Pid, File) {
    let (read, write) = pipe().expect("a pipe");
    // SAFETY: no other thread of this process holds a lock, see above.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            drop(read);
            let mut write = File::from(write);
            ptrace::traceme().expect("to be traced");
            raise(Signal::SIGSTOP).expect("to stop");
            let said = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                format!("PANIC {}", text.or(panic.downcast_ref().copied()).unwrap_or("without a text"))
            });
            mark();
            let code = i32::from(write.write_all(said.as_bytes()).is_err());
            // SAFETY: ends the child at once, without what the test harness registered for its own end.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            let stopped = waitpid(child, None).expect("the child stops");
            assert_eq!(stopped, WaitStatus::Stopped(child, Signal::SIGSTOP));
            let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
            ptrace::setoptions(child, options).expect("options");
            (child, File::from(read))
        }
    }
}

/// Follows the child up to its fault or mark, and lets it go.
fn trace(child: Pid, fault: Fault) -> Vec<Call> {
    let mut calls = Vec::new();
    loop {
        let Some(call) = next_stop(child, Call::of) else {
            return calls;
        };
        if call.number == libc::SYS_getppid {
            break;
        }
        let index = calls.len();
        calls.push(call);
        match fault {
            Fault::Kill { call, side: Side::Entry } if call == index => {
                kill(child, Signal::SIGKILL).expect("it lives");
                return calls;
            }
            Fault::Kill { call, side: Side::Exit } if call == index => {
                next_stop(child, |_| ());
                kill(child, Signal::SIGKILL).expect("it lives");
                return calls;
            }
            Fault::Fail { call: at, errno } if at == index => {
                fail(child, call, errno);
                break;
            }
            _ => {
                next_stop(child, |_| ());
            }
        }
    }
    ptrace::cont(child, None).expect("it goes on");
    calls
}

/// Lets the child run to the next entry or exit of a call; `None` when it ended.
fn next_stop<T>(child: Pid, look: impl FnOnce(&libc::user_regs_struct) -> T) -> Option<T> {
    let mut signal = None;
    loop {
        ptrace::syscall(child, signal).expect("it goes on");
        match waitpid(child, None).expect("the child") {
            WaitStatus::PtraceSyscall(_) => {
                return Some(look(&ptrace::getregs(child).expect("its registers")));
            }
            WaitStatus::Stopped(_, other) => signal = Some(other),
            _ => return None,
        }
    }
}

/// At the entry of `call`: lets it fail.
fn fail(child: Pid, call: Call, errno: Errno) {
    // Linux closes a descriptor even where it tells of an error.
    if call.number != libc::SYS_close {
        let mut regs = ptrace::getregs(child).expect("its registers");
        regs.orig_rax = u64::MAX;
        ptrace::setregs(child, regs).expect("its registers");
    }
    next_stop(child, |_| ()).expect("a call that is not carried out ends");
    let mut regs = ptrace::getregs(child).expect("its registers");
    regs.rax = (-i64::from(errno as i32)) as u64;
    ptrace::setregs(child, regs).expect("its registers");
}

impl Call {
    const fn of(regs: &libc::user_regs_struct) -> Self {
        Self { number: regs.orig_rax as c_long, mapped: regs.r8 as i32 }
    }

    pub const fn is(self, number: c_long) -> bool {
        self.number == number
    }

    /// Whether it opens a file, and may make one.
    fn opens_files(self) -> bool {
        [libc::SYS_open, libc::SYS_openat, libc::SYS_openat2, libc::SYS_creat].contains(&self.number)
    }

    /// Whether it speaks of files, so that a disk may refuse it.
    pub fn touches_files(self) -> bool {
        const OTHERS: [c_long; 18] = [
            libc::SYS_brk,
            libc::SYS_clock_gettime,
            libc::SYS_futex,
            libc::SYS_getpid,
            libc::SYS_getrandom,
            libc::SYS_gettid,
            libc::SYS_madvise,
            libc::SYS_mprotect,
            libc::SYS_mremap,
            libc::SYS_munmap,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_sched_getaffinity,
            libc::SYS_sched_yield,
            libc::SYS_sigaltstack,
            libc::SYS_geteuid,
            libc::SYS_tgkill,
        ];
        !OTHERS.contains(&self.number) && (self.number != libc::SYS_mmap || self.mapped >= 0)
    }

    /// Whether it may change what is on a disk, or when.
    pub fn changes_files(self) -> bool {
        CHANGING.iter().any(|(number, _)| *number == self.number)
    }
}

const CHANGING: [(c_long, &str); 24] = [
    (libc::SYS_copy_file_range, "copy_file_range"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_fchmodat, "fchmodat"),
    (libc::SYS_fchmodat2, "fchmodat2"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_pwritev, "pwritev"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_syncfs, "syncfs"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_utimensat, "utimensat"),
    (libc::SYS_write, "write"),
];

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match CHANGING.iter().find(|(number, _)| *number == self.number) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "system call {}", self.number),
        }
    }
}
