/* What a hostile model would do that got hold of its slot. The tests compile this and name it as the library of ONNX
 * Runtime, so that a real slot loads it; it tries all of this while it is loaded, and is no run-time in the end.
 *
 * It says on standard error how each attempt went: `hostile: WHAT: done` or `hostile: WHAT: errno N`. Nothing it does
 * hurts whoever runs it unconfined, which one test does to see that the attempts work.
 *
 * FOLDER (a folder to write into and a socket `elsewhere.sock` in it) and PORT (a TCP port of 127.0.0.1 somebody
 * listens on) are given when it is compiled. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 0x3fffffff

static void said(const char *what, long result)
{
    if (result < 0)
        dprintf(2, "hostile: %s: errno %d\n", what, errno);
    else
        dprintf(2, "hostile: %s: done\n", what);
}

static long opened(const char *path, int flags)
{
    int file = open(path, flags, 0600);
    if (0 <= file)
        close(file);
    return file;
}

static long connected_to_port(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int made = socket(AF_INET, SOCK_STREAM, 0);
    return made < 0 ? made : connect(made, (struct sockaddr *)&to, sizeof to);
}

static long connected_to_socket(void)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    strncpy(to.sun_path, FOLDER "/elsewhere.sock", sizeof to.sun_path - 1);
    int made = socket(AF_UNIX, SOCK_STREAM, 0);
    return made < 0 ? made : connect(made, (struct sockaddr *)&to, sizeof to);
}

static long forked(void)
{
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", "echo > " FOLDER "/spawned", (char *)0);
        _exit(1);
    }
    return child < 0 ? child : waitpid(child, 0, 0);
}

/* Of a program that is not there, so that it comes back unconfined as well. */
static long became(void)
{
    return execl("/nowhere/program", "program", (char *)0);
}

static long ringed(void)
{
    struct io_uring_params parameters = { 0 };
    long ring = syscall(SYS_io_uring_setup, 1, &parameters);
    if (0 <= ring)
        close(ring);
    return ring;
}

__attribute__((constructor)) static void trespass(void)
{
    char environment[64];
    snprintf(environment, sizeof environment, "/proc/%d/environ", getppid());
    said("read a file", opened("/etc/passwd", O_RDONLY));
    said("read the parent's environment", opened(environment, O_RDONLY));
    said("write a file", opened(FOLDER "/written", O_WRONLY | O_CREAT));
    said("open a device", opened("/dev/full", O_RDWR));
    said("connect over TCP", connected_to_port());
    said("connect to a socket", connected_to_socket());
    said("fork", forked());
    said("become a program", became());
    said("trace", ptrace(PTRACE_ATTACH, NOBODY, 0, 0));
    said("signal", kill(getppid(), 0));
    said("use keys", syscall(SYS_keyctl, 0, -3, 0, 0, 0));
    said("add a key", syscall(SYS_add_key, "user", "bms", "x", 1, -2));
    said("use io_uring", ringed());
}
