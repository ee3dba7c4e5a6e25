/* Which build this is: part of an actor's fingerprint (DESIGN section 5) and what --version prints. */
#ifndef CANDOR_BASE_BUILD_H
#define CANDOR_BASE_BUILD_H

/* "0.1.0+2f9c1d4a7b3e", the commit of the sources when cmake configured them; "0.1.0" without git. */
const char *build_name(void);

#endif
