/*
 * Puts a server of 127.0.0.1 at a distance: every piece arrives `delay` later, measured from when the kernel
 * received it. Node's timers know whole milliseconds only; this is exact to some microseconds.
 *
 *   delay-proxy <port of the server>
 *
 * Prints `port <its port> priority <1: real-time>`. Lines of its input: `delay <ns>` sets the delay of one
 * direction; `late` replies `late <pieces> <p50 ns> <p99 ns> <max ns>` of how late pieces were since the last
 * one. Ends when its input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define BYTES 65536
/* The timer is set this much earlier: waking up takes that long. The rest is waited for awake. */
#define EARLY 40000LL
/* Microseconds that are counted exactly. */
#define COUNTED 10000

/* One end of a connection; `closed`: it gets nothing more. */
struct end {
  int fd, closed;
  struct end *peer;
};

/* What one end has sent; without bytes: that it has closed. */
struct piece {
  struct piece *next;
  struct end *to;
  int64_t due;
  size_t length;
  char bytes[];
};

static struct piece *first, **last = &first;
static int64_t delay, last_due;
static int epoll, timer, server_port;
static uint32_t lateness[COUNTED + 1];
static int64_t latest;

static int64_t now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * SECOND + time.tv_nsec;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void watch(int fd, void *data) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

static struct end *new_end(int fd) {
  int on = 1;
  struct end *end = calloc(1, sizeof *end);
  if (!end) fail("malloc");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
  end->fd = fd;
  return end;
}

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static void accept_client(int listener) {
  struct sockaddr_in address = loopback(server_port);
  int near = accept(listener, NULL, NULL), far = socket(AF_INET, SOCK_STREAM, 0);
  if (near < 0) return;
  if (connect(far, (struct sockaddr *)&address, sizeof address) != 0) {
    close(near);
    close(far);
    return;
  }
  struct end *client = new_end(near), *server = new_end(far);
  client->peer = server;
  server->peer = client;
  watch(near, client);
  watch(far, server);
}

/* How long ago the kernel received what was read; its first bytes, if it was more than a packet, before. */
static int64_t age(struct msghdr *message) {
  for (struct cmsghdr *each = CMSG_FIRSTHDR(message); each; each = CMSG_NXTHDR(message, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_TIMESTAMPNS) continue;
    struct timespec time;
    memcpy(&time, CMSG_DATA(each), sizeof time);
    int64_t age = now(CLOCK_REALTIME) - (time.tv_sec * SECOND + time.tv_nsec);
    return age < 0 ? 0 : age < delay ? age : delay; /* The clock may have been set. */
  }
  return 0;
}

static void read_piece(struct end *from) {
  static char bytes[BYTES], control[256];
  struct iovec data = {bytes, BYTES};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t length = recvmsg(from->fd, &message, MSG_DONTWAIT);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (length < 0) length = 0;
  struct piece *piece = malloc(sizeof *piece + length);
  if (!piece) fail("malloc");
  int64_t due = now(CLOCK_MONOTONIC) + delay - age(&message);
  /* In order, also when the delay was longer before. */
  if (due > last_due) last_due = due;
  *piece = (struct piece){.to = from->peer, .due = last_due, .length = length};
  memcpy(piece->bytes, bytes, length);
  *last = piece;
  last = &piece->next;
  if (length == 0) epoll_ctl(epoll, EPOLL_CTL_DEL, from->fd, NULL);
}

static void close_end(struct end *end) {
  shutdown(end->fd, SHUT_WR);
  end->closed = 1;
  struct end *peer = end->peer;
  if (!peer->closed) return;
  close(end->fd);
  close(peer->fd);
  free(end);
  free(peer);
}

static void count_late(int64_t late) {
  int64_t micros = late / 1000;
  lateness[micros < COUNTED ? micros : COUNTED]++;
  if (late > latest) latest = late;
}

static void send_due(void) {
  for (int64_t time; first && first->due <= (time = now(CLOCK_MONOTONIC));) {
    struct piece *piece = first;
    first = piece->next;
    if (!first) last = &first;
    if (piece->length == 0) {
      close_end(piece->to);
    } else {
      send(piece->to->fd, piece->bytes, piece->length, MSG_NOSIGNAL);
      count_late(time - piece->due);
    }
    free(piece);
  }
}

/* Returns the time limit of epoll: none, or 0 if the next piece is due so soon that the timer would be late. */
static int wait_for_first(void) {
  static int64_t set;
  if (!first) return -1;
  int64_t at = first->due - EARLY;
  if (at <= now(CLOCK_MONOTONIC)) return 0;
  if (at != set) {
    struct itimerspec time = {.it_value = {at / SECOND, at % SECOND}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &time, NULL);
    set = at;
  }
  return -1;
}

/* The lateness, in nanoseconds, below which this share of the pieces was sent. */
static int64_t quantile(uint64_t total, double share) {
  uint64_t below = 0;
  for (int64_t micros = 0; micros < COUNTED; micros++)
    if ((below += lateness[micros]) > total * share) return micros * 1000;
  return latest;
}

static void obey(void) {
  static char line[256];
  static size_t length;
  ssize_t more = read(STDIN_FILENO, line + length, sizeof line - 1 - length);
  if (more <= 0) exit(0);
  line[length += more] = 0;
  for (char *end; (end = strchr(line, '\n'));) {
    if (sscanf(line, "delay %ld", &delay) == 1) {
      printf("delay %ld\n", delay);
    } else {
      uint64_t total = 0;
      for (int i = 0; i <= COUNTED; i++) total += lateness[i];
      printf("late %lu %ld %ld %ld\n", total, quantile(total, 0.5), quantile(total, 0.99), latest);
      memset(lateness, 0, sizeof lateness);
      latest = 0;
    }
    fflush(stdout);
    length -= end + 1 - line;
    memmove(line, end + 1, length + 1);
  }
}

int main(int count, char **args) {
  struct sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  struct sched_param priority = {.sched_priority = 10};
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  server_port = count > 1 ? atoi(args[1]) : 0;
  /* A network does not wait for a processor. Where this is not allowed, it is late when all cores are busy. */
  int real_time = sched_setscheduler(0, SCHED_FIFO, &priority) == 0;
  epoll = epoll_create1(0);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 128) != 0) fail("listen");
  getsockname(listener, (struct sockaddr *)&address, &size);
  watch(listener, &listener);
  watch(timer, &timer);
  watch(STDIN_FILENO, &epoll);
  printf("port %d priority %d\n", ntohs(address.sin_port), real_time);
  fflush(stdout);
  for (;;) {
    struct epoll_event events[64];
    int ready = epoll_wait(epoll, events, 64, wait_for_first());
    for (int i = 0; i < ready; i++) {
      void *what = events[i].data.ptr;
      uint64_t times;
      if (what == &listener) accept_client(listener);
      else if (what == &epoll) obey();
      else if (what == &timer) (void)!read(timer, &times, sizeof times);
      else read_piece(what);
    }
    send_due();
  }
}
