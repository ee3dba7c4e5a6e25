#include "deploy/cli/progress.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/clock.h"

#define BAR_CELLS 16
#define LINE_BYTES 512
#define REDRAW_SECONDS 0.1
#define LINE_PERCENT 10   /* without a terminal: a line each tenth, */
#define LINE_SECONDS 60.0 /* and no more often than this when that is slow */
#define JUDGE_SECONDS 5.0 /* no word of the remaining time before */

void progress_begin(struct progress *progress, const char *title) {
    *progress = (struct progress){.title = title, .started = clock_seconds(), .last_drawn = -1e9, .last_percent = -1};
    progress->terminal = isatty(2) == 1;
    progress_update(progress, 0, 0, NULL);
}

void progress_duration(double seconds, char *out, unsigned out_bytes) {
    long total = seconds > 0 && seconds < 1e9 ? (long)(seconds + 0.5) : 0, minutes = (total + 30) / 60;
    if (total < 60)
        snprintf(out, out_bytes, "%ld s", total);
    else if (minutes < 60)
        snprintf(out, out_bytes, "%ld min", minutes);
    else if (minutes < 48 * 60)
        snprintf(out, out_bytes, "%ld h %ld min", minutes / 60, minutes % 60);
    else
        snprintf(out, out_bytes, "%ld d %ld h", minutes / 1440, minutes % 1440 / 60);
}

/* "  3 min left", or nothing while that cannot be judged. */
static void put_left(struct progress *progress, uint64_t done, uint64_t total, double now, char *out, unsigned bytes) {
    char duration[32];
    out[0] = 0;
    if (total == 0)
        return;
    if (!progress->counting) {
        progress->counting = true;
        progress->first_done = done;
        progress->first_seconds = now;
    }
    double spent = now - progress->first_seconds;
    if (done <= progress->first_done || done >= total || spent < JUDGE_SECONDS)
        return;
    progress_duration(spent * (double)(total - done) / (double)(done - progress->first_done), duration,
                      sizeof duration);
    snprintf(out, bytes, "  %s left", duration);
}

/* Cut to the terminal's width: a longer line would not be redrawn in place. */
static void draw(const char *line) {
    struct winsize size;
    int columns = ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 79;
    fprintf(stderr, "\r\033[K%.*s", columns, line);
}

void progress_update(struct progress *progress, uint64_t done, uint64_t total, const char *note) {
    double now = clock_seconds();
    int percent = total > 0 ? (int)(100 * done / total) : 0;
    char left[48], bar[BAR_CELLS + 1], line[LINE_BYTES];
    put_left(progress, done, total, now, left, sizeof left);
    if (now - progress->last_drawn < REDRAW_SECONDS)
        return;
    bool tenth = percent / LINE_PERCENT != progress->last_percent / LINE_PERCENT;
    bool slow = done != progress->last_done && now - progress->last_drawn >= LINE_SECONDS;
    if (!progress->terminal && (total == 0 || !(tenth || slow)))
        return;
    progress->last_drawn = now;
    progress->last_percent = percent;
    progress->last_done = done;
    for (int i = 0; i < BAR_CELLS; i++)
        bar[i] = i * 100 < percent * BAR_CELLS ? '#' : '.';
    bar[BAR_CELLS] = 0;
    const char *text = note != NULL ? note : "";
    if (progress->terminal) {
        snprintf(line, sizeof line, "%s [%s] %3d%%%s  %s", progress->title, total > 0 ? bar : "", percent, left, text);
        draw(line);
    } else {
        fprintf(stderr, "%s %d%%%s  %s\n", progress->title, percent, left, text);
    }
    fflush(stderr);
}

void progress_say(struct progress *progress, const char *line) {
    fprintf(stderr, "%s%s\n", progress->terminal ? "\r\033[K" : "", line);
    if (progress->terminal)
        progress->last_drawn = -1e9; /* draw again at once */
}

void progress_end(struct progress *progress, const char *note) {
    double seconds = clock_seconds() - progress->started;
    fprintf(stderr, "%s%-22s done in %.1f s  %s\n", progress->terminal ? "\r\033[K" : "", progress->title, seconds,
            note != NULL ? note : "");
}

void progress_abort(struct progress *progress) {
    if (progress->terminal)
        fprintf(stderr, "\r\033[K");
}
