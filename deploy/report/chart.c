#include "deploy/report/chart.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "deploy/report/html.h"

/* The drawing area in SVG units. */
#define WIDTH 460
#define HEIGHT 230
#define LEFT 46
#define RIGHT 12
#define TOP 10
#define BOTTOM 30
#define POINTS_MAX 400   /* drawn a series: more are thinned */
#define SMOOTH_SHARE 0.1 /* weight of a new point is at least this; at first the plain mean */

struct range {
    double low, high;
};

struct frame {
    struct range x, y;
};

static double place_x(const struct frame *frame, double x) {
    return LEFT + (x - frame->x.low) / (frame->x.high - frame->x.low) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct frame *frame, double y) {
    return HEIGHT - BOTTOM - (y - frame->y.low) / (frame->y.high - frame->y.low) * (HEIGHT - TOP - BOTTOM);
}

static void include(struct range *range, double value) {
    if (!isfinite(value))
        return;
    range->low = value < range->low ? value : range->low;
    range->high = value > range->high ? value : range->high;
}

static void widen(struct range *range) {
    if (range->high > range->low)
        return;
    if (range->low == 0) {
        range->high = 1; /* all zero: show zero at the bottom */
        return;
    }
    double by = fabs(range->low) * 0.5;
    range->low -= by;
    range->high += by;
}

static bool find_frame(const struct chart *chart, struct frame *out_frame) {
    struct frame frame = {{INFINITY, -INFINITY}, {INFINITY, -INFINITY}};
    for (size_t i = 0; i < chart->series_count; i++) {
        for (size_t j = 0; j < chart->series[i].count; j++) {
            if (!isfinite(chart->series[i].y[j]))
                continue;
            include(&frame.x, chart->series[i].x[j]);
            include(&frame.y, chart->series[i].y[j]);
        }
    }
    if (!(frame.x.high >= frame.x.low))
        return false;
    if (chart->from_zero)
        include(&frame.y, 0);
    if (chart->y_most > 0)
        frame.y.high = chart->y_most;
    widen(&frame.x);
    widen(&frame.y);
    *out_frame = frame;
    return true;
}

/* A step of 1, 2 or 5 times a power of ten that gives about `wanted` ticks. */
static double tick_step(struct range range, int wanted) {
    double rough = (range.high - range.low) / wanted;
    double power = pow(10, floor(log10(rough)));
    double times = rough / power;
    return power * (times < 1.5 ? 1 : times < 3.5 ? 2 : times < 7.5 ? 5 : 10);
}

/* 20000 as 20k, 3500000 as 3.5M. */
static void put_number(struct buf *out, double value, double step) {
    if (fabs(value) < step * 1e-6)
        value = 0;
    if (fabs(value) >= 1e6)
        buf_printf(out, "%.4gM", value / 1e6);
    else if (fabs(value) >= 1e4)
        buf_printf(out, "%.4gk", value / 1e3);
    else
        buf_printf(out, "%.4g", value);
}

static void put_axes(struct buf *out, const struct frame *frame, const char *x_label) {
    double step = tick_step(frame->y, 4);
    for (double y = ceil(frame->y.low / step) * step; y <= frame->y.high + step * 1e-6; y += step) {
        double at = place_y(frame, y);
        buf_printf(out, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT, at,
                   at);
        buf_printf(out, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 6, at + 3.5);
        put_number(out, y, step);
        buf_puts(out, "</text>");
    }
    step = tick_step(frame->x, 6);
    for (double x = ceil(frame->x.low / step) * step; x <= frame->x.high + step * 1e-6; x += step) {
        buf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", place_x(frame, x),
                   HEIGHT - BOTTOM + 14);
        put_number(out, x, step);
        buf_puts(out, "</text>");
    }
    buf_printf(out, "<text class=\"tick\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", WIDTH - RIGHT, HEIGHT - 3);
    html_put(out, x_label);
    buf_puts(out, "</text>");
}

static void put_polyline(struct buf *out, const struct frame *frame, const struct series *series, const char *class,
                         size_t number, bool smoothed) {
    size_t every = series->count / POINTS_MAX + 1, seen = 0;
    double mean = 0;
    bool open = false;
    for (size_t i = 0; i < series->count; i++) {
        double y = series->y[i];
        if (!isfinite(y)) {
            if (!smoothed && open) {
                buf_puts(out, "\"/>");
                open = false;
            }
            continue;
        }
        double weight = 1.0 / (double)(++seen);
        mean += (y - mean) * (weight > SMOOTH_SHARE ? weight : SMOOTH_SHARE);
        if (i % every != 0 && i + 1 != series->count)
            continue;
        if (!open)
            buf_printf(out, "<polyline class=\"%s s%zu\" points=\"", class, number);
        open = true;
        buf_printf(out, "%.1f,%.1f ", place_x(frame, series->x[i]), place_y(frame, smoothed ? mean : y));
    }
    if (open)
        buf_puts(out, "\"/>");
}

static void put_head(struct buf *out, const struct chart *chart, char key, bool legend) {
    buf_puts(out, "<figure><figcaption><b>");
    html_put(out, chart->title);
    buf_puts(out, "</b>");
    if (chart->note != NULL) {
        buf_puts(out, " <span class=\"note\">");
        html_put(out, chart->note);
        buf_puts(out, "</span>");
    }
    for (size_t i = 0; legend && chart->series_count > 1 && i < chart->series_count; i++) {
        buf_printf(out, " <span class=\"key %c%zu\">", key, i);
        html_put(out, chart->series[i].name);
        buf_puts(out, "</span>");
    }
    buf_printf(out, "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\">", WIDTH, HEIGHT);
}

void chart_lines(struct buf *out, const struct chart *chart) {
    struct frame frame;
    if (!find_frame(chart, &frame))
        return;
    put_head(out, chart, 'k', true);
    put_axes(out, &frame, chart->x_label);
    for (size_t i = 0; i < chart->series_count; i++) {
        put_polyline(out, &frame, &chart->series[i], chart->smooth ? "raw" : "line", i, false);
        if (chart->smooth)
            put_polyline(out, &frame, &chart->series[i], "line", i, true);
    }
    buf_puts(out, "</svg></figure>\n");
}

void chart_stacked(struct buf *out, const struct chart *chart) {
    struct frame frame;
    if (chart->series_count == 0 || chart->series[0].count < 2 || !find_frame(chart, &frame))
        return;
    size_t count = chart->series[0].count;
    put_head(out, chart, 'a', true);
    for (size_t i = 0; i < chart->series_count; i++) {
        buf_printf(out, "<polygon class=\"area a%zu\" points=\"", i);
        for (int upper = 0; upper < 2; upper++) {
            for (size_t j = 0; j < count; j++) {
                size_t at = upper ? count - 1 - j : j;
                double sum = 0;
                for (size_t below = 0; below < i + (upper ? 1 : 0); below++)
                    sum += chart->series[below].y[at];
                buf_printf(out, "%.1f,%.1f ", place_x(&frame, chart->series[0].x[at]), place_y(&frame, sum));
            }
        }
        buf_puts(out, "\"/>");
    }
    put_axes(out, &frame, chart->x_label);
    buf_puts(out, "</svg></figure>\n");
}

void chart_points(struct buf *out, const struct chart *chart) {
    struct frame frame;
    if (!find_frame(chart, &frame))
        return;
    double pad_x = (frame.x.high - frame.x.low) * 0.08, pad_y = (frame.y.high - frame.y.low) * 0.08;
    frame.x = (struct range){frame.x.low - pad_x, frame.x.high + pad_x};
    frame.y = (struct range){frame.y.low - pad_y, frame.y.high + pad_y};
    put_head(out, chart, 'k', false);
    put_axes(out, &frame, chart->x_label);
    for (size_t i = 0; i < chart->series_count; i++) {
        const struct series *series = &chart->series[i];
        put_polyline(out, &frame, series, "raw", i, false);
        for (size_t j = 0; j < series->count; j++) {
            if (!isfinite(series->y[j]))
                continue;
            double x = place_x(&frame, series->x[j]), y = place_y(&frame, series->y[j]);
            bool right = x < WIDTH * 0.7;
            buf_printf(out, "<circle class=\"dot k%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"%d\"/>", i, x, y,
                       j + 1 == series->count ? 5 : 3);
            if (j + 1 < series->count)
                continue;
            buf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", right ? x + 8 : x - 8,
                       y + 4, right ? "start" : "end");
            html_put(out, series->name);
            buf_puts(out, "</text>");
        }
    }
    buf_puts(out, "</svg></figure>\n");
}
