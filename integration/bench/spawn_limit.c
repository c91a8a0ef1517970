/* spawn_limit COUNT COMMAND: how fast `bash -c COMMAND` can be done with a new bash each time.
   Two at a time; the output of each is read to its end and thrown away. */
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/wait.h>

extern char **environ;
enum { AT_ONCE = 2 };

static int start(char *command, pid_t *pid) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) exit(2);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    char *words[] = {"bash", "-c", command, NULL};
    if (posix_spawnp(pid, "bash", &actions, NULL, words, environ)) exit(2);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    return ends[0];
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int left = atoi(argv[1]), running = 0, status, failed = 0;
    struct pollfd streams[AT_ONCE];
    pid_t pids[AT_ONCE];
    char buffer[65536];
    for (int i = 0; i < AT_ONCE; i++) streams[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    while (left || running) {
        for (int i = 0; i < AT_ONCE && left; i++)
            if (streams[i].fd < 0) streams[i].fd = start(argv[2], &pids[i]), left--, running++;
        poll(streams, AT_ONCE, -1);
        for (int i = 0; i < AT_ONCE; i++) {
            if (streams[i].fd < 0 || !streams[i].revents) continue;
            if (read(streams[i].fd, buffer, sizeof buffer) > 0) continue;
            close(streams[i].fd);
            streams[i].fd = -1, running--;
            waitpid(pids[i], &status, 0);
            failed += status != 0;
        }
    }
    return failed != 0;
}
