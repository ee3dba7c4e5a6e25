/* The files of kernels/ are compiled once for every instruction path; CPU_PATH is its name (portable, avx2, avx512) and
 * PATH(name) the path's own symbol. All paths give the same bits: see vector.h. */
#ifndef CANDOR_COMPUTE_CPU_PATH_H
#define CANDOR_COMPUTE_CPU_PATH_H

#define PATH_JOIN2(name, path) name##_##path
#define PATH_JOIN(name, path) PATH_JOIN2(name, path)
#define PATH(name) PATH_JOIN(name, CPU_PATH)

#endif
