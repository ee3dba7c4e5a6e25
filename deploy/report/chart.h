/* Charts as SVG text for the report: lines, stacked areas, and points in a plane. Colours come from the page's CSS classes
 * (s0 .. s7), so a chart follows the page into dark mode. No scripts, no network. */
#ifndef CANDOR_REPORT_CHART_H
#define CANDOR_REPORT_CHART_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"

#define CHART_SERIES_MAX 8

struct series {
    const char *name;
    const double *x, *y; /* [count]; y may be NaN: a gap */
    size_t count;
};

struct chart {
    const char *title, *note; /* note: a line under the title, may be NULL */
    const char *x_label;
    struct series series[CHART_SERIES_MAX];
    size_t series_count;
    bool smooth;    /* raw points faint, an exponential mean bold */
    bool from_zero; /* the y axis begins at 0 */
    double y_most;  /* above 0: the axis ends there (shares: 1 or 100) */
};

/* Lines over x. Nothing is written when no series has a finite point. */
void chart_lines(struct buf *out, const struct chart *chart);
/* Areas stacked on each other; all series share the x of the first. */
void chart_stacked(struct buf *out, const struct chart *chart);
/* One dot for each point with its series' name beside the last; x and y axes both free. */
void chart_points(struct buf *out, const struct chart *chart);

#endif
