//! The half of presocks that lives inside other people's processes: libc calls in, frames to the broker out.
//!
//! Read `connect.rs` first: everything else serves it. The rules of this house:
//!
//! 1. Fail closed: a path that is not provably "pass" returns a failure with a network errno, never the real call.
//! 2. No policy, no protocol, no configuration, no credential: the broker decides (rule 2 of ARCHITECTURE.md).
//! 3. After start: no allocation of ours, no locks, no threads, no panics; frames under 2 KiB; no descriptor that outlives
//!    its connect and the question how it ended. Hooks may run before our constructor, after atexit, in a vfork child, in a signal handler.
//! 4. errno is kept on success, set only with a failure, never set to 0.
//! 5. A descriptor number means nothing from one call to the next: `SO_COOKIE` tells sockets apart.
//! 6. A hook with nothing to do costs a relaxed atomic load (the send family: a few) and a tail call. Exceptions: a datagram with an address of the
//!    broker's asks for the socket's cookie and looks up whom it is from or for; getpeername on a connected
//!    IP socket asks the broker, and so does, with `--bind`, getsockname on a TCP socket that has an address; epoll_wait and its kin look through the events that they return; a send to a loopback
//!    address asks the kernel by which device the socket speaks.
//! 7. A call carries the session's pass only if it has been judged here, and only by `pass`: the seccomp filter lets it go unseen. What has not
//!    been judged goes without, and only where the filter is known to stand.
//!
//! | file | libc family or part |
//! | --- | --- |
//! | `connect` | connect() on stream sockets |
//! | `datagram`, `control` | connect() on datagram sockets; send, sendto, sendmsg, sendmmsg and their control messages |
//! | `transfer` | read, write and their kin: not before the connection is there |
//! | `receive` | recvfrom, recvmsg, recvmmsg: who has sent it |
//! | `flows`, `gate` | the broker's addresses, that stand for a datagram's destination or source |
//! | `poll`, `select`, `epoll` | the wait family: a pending socket is not ready before its far end is connected |
//! | `close` | close(), shutdown(): what ends a pending socket's connect |
//! | `status` | getsockopt(SO_ERROR), getpeername |
//! | `dup` | dup() and its kin: a copy of a pending socket is pending |
//! | `fcntl` | fcntl(), ioctl(): the same, and `O_ASYNC` while a connect is under way |
//! | `listen` | bind(), listen(), getsockname(), accept(), accept4(): in a session with `--bind` |
//! | `socket`, `setsockopt` | socket(), setsockopt(): the kinds that cannot be proxied, what would lead past loopback |
//! | `getaddrinfo`, `getaddrinfo_a`, `gethostby`, `getnameinfo`, `getnet`, `gethostid`, `resolver`, `idn` | names |
//! | `interfaces`, `netlink` | getifaddrs(), if_nameindex(): what libc asks the kernel where no hook sees it |
//! | `rcmd`, `rpc` | what connects inside libc |
//! | `pending`, `claim` | the connects that are under way, and taking turns on them |
//! | `ticket`, `session` | the way to the broker |
//! | `pass` | calls that the seccomp filter lets go, and cancellation in them |
//! | `refuse` | how a function is refused as a whole |
//! | `sys`, `sockaddr`, `errno`, `fdinfo`, `lines`, `descriptors`, `kernel_limits` | system calls, socket addresses, errno, registrations in epoll sets, short text files, what is open, how much of its arguments the kernel reads |
//! | `start`, `unwind` | the constructor; why libgcc_s is not needed |

// redhook calls the real function when a hook unwinds: that would be a direct connection.
#[cfg(not(any(panic = "abort", test)))]
compile_error!("the shim must be built with panic = \"abort\": a hook that unwinds would connect directly");

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
compile_error!("the shim hooks glibc on Linux; no other libc is served by LD_PRELOAD");

mod claim;
mod close;
mod connect;
mod control;
mod datagram;
mod descriptors;
mod dup;
mod epoll;
mod errno;
mod fcntl;
mod fdinfo;
mod flows;
mod gate;
mod getaddrinfo;
mod getaddrinfo_a;
mod gethostby;
mod gethostid;
mod getnameinfo;
mod getnet;
mod idn;
mod interfaces;
mod kernel_limits;
mod lines;
mod listen;
mod netlink;
mod pass;
mod pending;
mod poll;
mod rcmd;
mod receive;
mod refuse;
mod resolver;
mod rpc;
mod select;
mod session;
mod setsockopt;
mod sockaddr;
mod socket;
mod start;
mod status;
mod sys;
mod ticket;
mod transfer;
#[cfg(not(test))]
mod unwind;
