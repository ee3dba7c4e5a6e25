/* candor-sim --seeds A..B: whole runs of Candor under seeds, spread over the processors. See README.md.
 *
 *   --jobs N       processes; default: one a processor
 *   --seconds N    begin no seed after so long, and say how far it came
 *   --log          print the whole event log of one seed
 *   --plant NAME   with a planted bug (candor-sim-planted alone); --plants: each of them, and each must be found
 *
 * Exit 0: every seed ended like the undisturbed run, and over 2,000 seeds or more every row of the transition tables
 * was seen. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/base/plant.h"
#include "tests/fault/sim.h"

enum { JOBS_MAX = 64, OUTPUT_BYTES = 1 << 16, ROWS_FROM_SEEDS = 2000, PLANT_SEEDS = 2000 };

/* Written by the jobs. */
struct shared {
    uint64_t rows[ROW_COUNT];
    uint64_t at[JOBS_MAX]; /* the seed under way */
    struct totals totals[JOBS_MAX];
    bool failed;
};

static struct shared *shared;
char sim_cache[] = "/tmp/candor-sim-XXXXXX";
static double until_seconds; /* 0: no limit */
static const char *program = "candor-sim", *planted = "";

#ifdef CANDOR_PLANTS
enum plant plant_chosen;
static const char *const plant_names[] = {"",
#define X(name, what) #name,
                                          PLANTS(X)
#undef X
};
static const char *const plant_texts[] = {"",
#define X(name, what) what,
                                          PLANTS(X)
#undef X
};
#endif

static const char *const row_texts[ROW_COUNT] = {
#define X(name, text) text,
    ROWS(X)
#undef X
};

/* ---- one seed again, with its log ---- */

static void on_abort(int signal_number) {
    (void)signal_number;
    sim_print_log();
    _Exit(1);
}

/* In a process of its own, as it may end in an assertion; what it printed, NUL-terminated. */
static int run_logged(uint64_t seed, bool disturbed, char *out_text) {
    static struct sim sim;
    int ends[2], state = 0;
    size_t used = 0;
    if (pipe(ends) != 0)
        return -1;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        signal(SIGABRT, on_abort);
        signal(SIGSEGV, on_abort);
        static uint64_t rows[ROW_COUNT];
        static struct totals totals;
        sim_run(&sim, seed, disturbed, true, rows, &totals);
        sim_print_log();
        _Exit(0);
    }
    close(ends[1]);
    for (;;) {
        if (used + 1 >= OUTPUT_BYTES)
            used /= 2;
        ssize_t got = read(ends[0], out_text + used, OUTPUT_BYTES - 1 - used);
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    out_text[used] = '\0';
    close(ends[0]);
    waitpid(child, &state, 0);
    return WIFEXITED(state) ? WEXITSTATUS(state) : 1;
}

/* ---- all seeds ---- */

static void run_job(uint32_t job, uint32_t jobs, uint64_t first, uint64_t last) {
    static struct sim sim;
    if (!freopen("/dev/null", "w", stderr))
        _Exit(2);
    for (uint64_t seed = first + job; seed <= last && !shared->failed; seed += jobs) {
        if (until_seconds > 0 && clock_seconds() > until_seconds)
            break;
        shared->at[job] = seed;
        sim_run(&sim, seed, true, false, shared->rows, &shared->totals[job]);
    }
    _Exit(0);
}

/* The lowest seed that failed in *out_seed; false: none did. */
static bool run_seeds(uint64_t first, uint64_t last, uint32_t jobs, uint64_t *out_seed) {
    pid_t children[JOBS_MAX];
    bool failed = false;
    memset(shared, 0, sizeof *shared);
    fflush(stdout);
    for (uint32_t job = 0; job < jobs; job++) {
        children[job] = fork();
        if (children[job] == 0)
            run_job(job, jobs, first, last);
    }
    for (uint32_t done = 0; done < jobs; done++) {
        int state;
        pid_t child = wait(&state);
        uint32_t job = 0;
        while (job < jobs && children[job] != child)
            job++;
        if (job == jobs || (WIFEXITED(state) && WEXITSTATUS(state) == 0))
            continue;
        shared->failed = true; /* the others stop after their seed */
        if (!failed || shared->at[job] < *out_seed)
            *out_seed = shared->at[job];
        failed = true;
    }
    return failed;
}

static void report_failure(uint64_t seed) {
    static char text[OUTPUT_BYTES];
    int result = run_logged(seed, true, text);
    printf("%s", text);
    printf("seed %llu fails%s; repeat it with: %s --seeds %llu..%llu --log%s%s\n", (unsigned long long)seed,
           result == 0 ? " among others, not alone" : "", program, (unsigned long long)seed, (unsigned long long)seed,
           planted[0] ? " --plant " : "", planted);
}

static void add_totals(struct totals *sum, const struct totals *totals) {
    /* all of it counts */
    const uint64_t *from = (const uint64_t *)totals;
    uint64_t *to = (uint64_t *)sum;
    _Static_assert(sizeof *sum % sizeof *to == 0, "nothing but counts");
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

static void print_faults(const struct totals *sum) {
    uint64_t faults = 0;
    for (int i = 0; i < FAULT_COUNT; i++)
        faults += sum->faults[i];
    printf("%llu faults:", (unsigned long long)faults);
    for (int i = 0; i < FAULT_COUNT; i++)
        printf("%s %llu %s", i ? "," : "", (unsigned long long)sum->faults[i], fault_names[i]);
    printf("\n");
}

static void print_totals(struct totals *sum, uint32_t jobs, double seconds) {
    for (uint32_t job = 0; job < jobs; job++)
        add_totals(sum, &shared->totals[job]);
    print_faults(sum);
    printf("%llu duplicate groups, %llu leases expired, %llu revived, %llu copies, %llu learner restarts, %llu runs "
           "ended by "
           "slot_stuck as they had to\n",
           (unsigned long long)sum->duplicates, (unsigned long long)sum->expired, (unsigned long long)sum->revived,
           (unsigned long long)sum->copies, (unsigned long long)sum->restarts, (unsigned long long)sum->stuck);
    printf(
        "%llu seeds, %llu events, %.1f hours of virtual time in %.1f s: %.0f seeds and %.2f million events a minute\n",
        (unsigned long long)sum->seeds, (unsigned long long)sum->events, (double)sum->simulated_ms / 3.6e6, seconds,
        (double)sum->seeds * 60 / seconds, (double)sum->events * 60e-6 / seconds);
    printf("%llu kills survived; of %llu samples %llu lost, %llu trained on twice; useful share of those generated: "
           "%.2f\n",
           (unsigned long long)sum->kills, (unsigned long long)sum->samples, (unsigned long long)sum->lost,
           (unsigned long long)sum->twice, sum->made ? (double)sum->samples / (double)sum->made : 0);
}

static int check_rows(uint64_t seeds) {
    uint32_t missing = 0, least = 0;
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        if (shared->rows[i] == 0) {
            printf("never seen: %s\n", row_texts[i]);
            missing++;
        }
        if (shared->rows[i] < shared->rows[least])
            least = i;
    }
    printf("%u of %d rows of the transition tables seen; the rarest, %llu times: %s\n", ROW_COUNT - missing, ROW_COUNT,
           (unsigned long long)shared->rows[least], row_texts[least]);
    return missing > 0 && seeds >= ROWS_FROM_SEEDS;
}

static int check_undisturbed(void) {
    static char text[OUTPUT_BYTES];
    for (uint32_t lag = 0; lag <= LAG_MAX; lag++)
        if (run_logged(lag, false, text) != 0) {
            printf("%sthe undisturbed run of lag %u fails\n", text, lag);
            return 1;
        }
    return 0;
}

/* ---- planted bugs ---- */

#ifdef CANDOR_PLANTS
/* The line that says what was noticed: the last one. */
static const char *last_line(char *text) {
    size_t bytes = strlen(text);
    while (bytes > 0 && text[bytes - 1] == '\n')
        text[--bytes] = '\0';
    char *line = strrchr(text, '\n');
    return line ? line + 1 : text;
}

static int find_plants(uint32_t jobs) {
    static char text[OUTPUT_BYTES];
    uint32_t found = 0;
    for (int i = 1; i < PLANT_COUNT; i++) {
        uint64_t seed = 0;
        plant_chosen = (enum plant)i;
        if (!run_seeds(1, PLANT_SEEDS, jobs, &seed)) {
            printf("%-26s NOT FOUND in %d seeds: %s\n", plant_names[i], PLANT_SEEDS, plant_texts[i]);
            continue;
        }
        run_logged(seed, true, text);
        char *assertion = strstr(text, "assert");
        if (assertion && strchr(assertion, '\n'))
            *strchr(assertion, '\n') = '\0';
        printf("%-26s seed %4llu: %s\n", plant_names[i], (unsigned long long)seed,
               assertion ? assertion : last_line(text));
        fflush(stdout);
        found++;
    }
    printf("%u of %d planted bugs found, each within %d seeds\n", found, PLANT_COUNT - 1, PLANT_SEEDS);
    return found < PLANT_COUNT - 1;
}

static int choose_plant(const char *name) {
    for (int i = 1; i < PLANT_COUNT; i++)
        if (strcmp(plant_names[i], name) == 0) {
            plant_chosen = (enum plant)i;
            planted = name;
            return 0;
        }
    fprintf(stderr, "%s: no planted bug %s\n", program, name);
    return 64;
}
#endif

/* ---- main ---- */

static int usage(void) {
    fprintf(stderr, "usage: %s --seeds A..B [--jobs N] [--seconds N] [--log] [--plant NAME | --plants]\n", program);
    return 64;
}

static int run_range(uint64_t first, uint64_t last, uint32_t jobs) {
    struct totals sum = {0};
    uint64_t seed = 0;
    double start = clock_seconds();
    if (!planted[0] && check_undisturbed())
        return 1;
    if (run_seeds(first, last, jobs, &seed)) {
        report_failure(seed);
        return 1;
    }
    print_totals(&sum, jobs, clock_seconds() - start);
    if (sum.seeds < last - first + 1)
        printf("only %llu of %llu seeds in the time given: this machine is slower, or busy\n",
               (unsigned long long)sum.seeds, (unsigned long long)(last - first + 1));
    return check_rows(sum.seeds);
}

/* The whole log, here: an assertion ends this process behind it. */
static int run_one(uint64_t seed) {
    static struct sim sim;
    static struct totals totals;
    sim_log_all = true;
    setvbuf(stdout, NULL, _IOLBF, 0);
    sim_run(&sim, seed, true, true, shared->rows, &totals);
    return 0;
}

int main(int argc, char **argv) {
    unsigned long long first = 1, last = 0;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t jobs = cores > 0 && cores <= JOBS_MAX ? (uint32_t)cores : 1;
    bool logs = false, plants = false;
    program = argv[0];
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--log") == 0)
            logs = true;
#ifdef CANDOR_PLANTS
        else if (strcmp(argv[i], "--plants") == 0)
            plants = true;
        else if (strcmp(argv[i], "--plant") == 0 && choose_plant(value) == 0)
            i++;
#endif
        else if (strcmp(argv[i], "--seeds") == 0 && sscanf(value, "%llu..%llu", &first, &last) == 2)
            i++;
        else if (strcmp(argv[i], "--seconds") == 0 && atof(value) > 0)
            until_seconds = clock_seconds() + atof(argv[++i]);
        else if (strcmp(argv[i], "--jobs") == 0 && (jobs = (uint32_t)strtoul(value, NULL, 10)) > 0 && jobs <= JOBS_MAX)
            i++;
        else
            return usage();
    }
    if (!plants && (last < first || first == 0))
        return usage();
    log_init("candor-sim", NULL, (enum log_level)(LOG_ERROR + 1)); /* thousands of runs of processes that log */
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    if (!mkdtemp(sim_cache))
        return 1;
    int result = 0;
#ifdef CANDOR_PLANTS
    if (plants)
        result = find_plants(jobs);
#endif
    if (!plants)
        result = logs && first == last ? run_one(first) : run_range(first, last, jobs);
    fs_remove_tree(sim_cache);
    return result;
}
