/*
 * An addon whose only export is a function that returns how many bytes the process has allocated with malloc
 * and not freed. The resident memory does not show that, because it includes what malloc retains for later.
 *
 * It declares the few functions of Node-API that it calls, so that it compiles without the runtime's headers.
 */
#include <stddef.h>

#ifdef __APPLE__
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif

typedef struct env *napi_env;
typedef struct value *napi_value;
typedef struct info *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
int napi_create_double(napi_env, double, napi_value *);
int napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);

static napi_value allocated(napi_env env, napi_callback_info info)
{
    (void)info;
#ifdef __APPLE__
    malloc_statistics_t stats;
    malloc_zone_statistics(NULL, &stats);
    double bytes = (double)stats.size_in_use;
#else
    /* glibc 2.33 or newer: all arenas, and what was mapped for large blocks. */
    struct mallinfo2 stats = mallinfo2();
    double bytes = (double)stats.uordblks + (double)stats.hblkhd;
#endif
    napi_value result = NULL;
    napi_create_double(env, bytes, &result);
    return result;
}

napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
    napi_value result = exports;
    napi_create_function(env, "allocated", 9, allocated, NULL, &result);
    return result;
}
