/* Preloaded into a process, keeps in $SHADOW_DIR what a power loss would leave of the files below $SHADOW_ROOT.
 *
 * At each fsync or fdatasync the content goes to $SHADOW_DIR/<inode>, and the file's name to $SHADOW_DIR/=<name>, a
 * link to that content. An fsync of a folder records the names of all files in it whose content was synced before, and
 * drops those that are gone.
 * Copies are renamed into place, so that a kill leaves the copy before. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *shadow;
static pthread_mutex_t copying = PTHREAD_MUTEX_INITIALIZER; /* threads share the names of copies on their way */

static void keep_name(const char *name, ino_t inode) {
    char content[64], scratch[PATH_MAX], target[PATH_MAX];
    snprintf(content, sizeof content, "%llu", (unsigned long long)inode);
    snprintf(scratch, sizeof scratch, "%s/name.tmp", shadow);
    snprintf(target, sizeof target, "%s/=%s", shadow, name);
    unlink(scratch);
    if (symlink(content, scratch) == 0) rename(scratch, target);
}

static void keep_content(int from, ino_t inode) {
    char scratch[PATH_MAX], target[PATH_MAX], block[65536];
    snprintf(scratch, sizeof scratch, "%s/content.tmp", shadow);
    snprintf(target, sizeof target, "%s/%llu", shadow, (unsigned long long)inode);
    int to = open(scratch, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (to < 0) return;
    off_t at = 0;
    ssize_t got;
    while ((got = pread(from, block, sizeof block, at)) > 0 && write(to, block, (size_t)got) == got) at += got;
    close(to);
    rename(scratch, target);
}

/* Names that are gone from a synced folder are gone for good: the number of their file may be given to another. */
static void drop_names(const char *folder) {
    DIR *entries = opendir(shadow);
    struct dirent *entry;
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        char there[PATH_MAX], link[PATH_MAX];
        if (entry->d_name[0] != '=') continue;
        snprintf(there, sizeof there, "%s/%s", folder, entry->d_name + 1);
        snprintf(link, sizeof link, "%s/%s", shadow, entry->d_name);
        if (access(there, F_OK) != 0) unlink(link);
    }
    if (entries != NULL) closedir(entries);
}

static void keep_names(const char *folder) {
    DIR *entries = opendir(folder);
    struct dirent *entry;
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        char content[PATH_MAX];
        snprintf(content, sizeof content, "%s/%llu", shadow, (unsigned long long)entry->d_ino);
        if (entry->d_type == DT_REG && access(content, F_OK) == 0) keep_name(entry->d_name, entry->d_ino);
    }
    if (entries != NULL) closedir(entries);
}

static void keep(int handle) {
    const char *root = getenv("SHADOW_ROOT");
    char link[64], path[PATH_MAX];
    struct stat status;
    shadow = getenv("SHADOW_DIR");
    if (root == NULL || shadow == NULL || fstat(handle, &status) != 0) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return;
    path[n] = 0;
    if (strncmp(path, root, strlen(root)) != 0) return;
    if (S_ISDIR(status.st_mode)) {
        drop_names(path);
        keep_names(path);
        return;
    }
    int from = open(link, O_RDONLY);
    if (from < 0) return;
    keep_content(from, status.st_ino);
    close(from);
    const char *name = strrchr(path, '/');
    if (name != NULL) keep_name(name + 1, status.st_ino);
}

static void keep_alone(int handle) {
    pthread_mutex_lock(&copying);
    keep(handle);
    pthread_mutex_unlock(&copying);
}

int fsync(int handle) {
    int result = (int)syscall(SYS_fsync, handle);
    if (result == 0) keep_alone(handle);
    return result;
}

int fdatasync(int handle) {
    int result = (int)syscall(SYS_fdatasync, handle);
    if (result == 0) keep_alone(handle);
    return result;
}
