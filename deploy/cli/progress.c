#include "deploy/cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "common/base/clock.h"

#define BAR_CELLS 24
#define REDRAW_SECONDS 0.1
#define LINE_PERCENT 10 /* without a terminal: a line each tenth */

void progress_begin(struct progress *progress, const char *title) {
    *progress = (struct progress){.title = title, .started = clock_seconds(), .last_drawn = -1e9, .last_percent = -1};
    progress->terminal = isatty(2) == 1;
    progress_update(progress, 0, 0, NULL);
}

void progress_update(struct progress *progress, uint64_t done, uint64_t total, const char *note) {
    double now = clock_seconds();
    int percent = total > 0 ? (int)(100 * done / total) : 0;
    if (now - progress->last_drawn < REDRAW_SECONDS)
        return;
    if (!progress->terminal && (total == 0 || percent / LINE_PERCENT == progress->last_percent / LINE_PERCENT))
        return;
    progress->last_drawn = now;
    progress->last_percent = percent;
    char bar[BAR_CELLS + 1];
    for (int i = 0; i < BAR_CELLS; i++)
        bar[i] = i * 100 < percent * BAR_CELLS ? '#' : '.';
    bar[BAR_CELLS] = 0;
    const char *text = note != NULL ? note : "";
    if (progress->terminal)
        fprintf(stderr, "\r\033[K%-22s [%s] %3d%%  %s", progress->title, total > 0 ? bar : "", percent, text);
    else
        fprintf(stderr, "%s %d%% %s\n", progress->title, percent, text);
    fflush(stderr);
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
