// cuBLAS's functions that the products call, by their signatures in cublas_api.h. They do what is installed.
typedef int (*Gemm)(void* handle, int transposed_a, int transposed_b, int m, int n, int k, const void* alpha, const void* a,
                    int a_type, int a_step, const void* b, int b_type, int b_step, const void* beta, void* c, int c_type,
                    int c_step, int compute, int algorithm);
typedef int (*SetStream)(void* handle, void* stream);
typedef int (*SetWorkspace)(void* handle, void* workspace, size_t bytes);

static Gemm gemm;
static SetStream set_stream;
static SetWorkspace set_workspace;

extern "C" void install(Gemm own_gemm, SetStream own_set_stream, SetWorkspace own_set_workspace) {
    gemm = own_gemm, set_stream = own_set_stream, set_workspace = own_set_workspace;
}

extern "C" int cublasSetStream_v2(void* handle, void* stream) { return set_stream(handle, stream); }

extern "C" int cublasSetWorkspace_v2(void* handle, void* workspace, size_t bytes) {
    return set_workspace(handle, workspace, bytes);
}

extern "C" int cublasGemmEx(void* handle, int transposed_a, int transposed_b, int m, int n, int k, const void* alpha,
                            const void* a, int a_type, int a_step, const void* b, int b_type, int b_step,
                            const void* beta, void* c, int c_type, int c_step, int compute, int algorithm) {
    return gemm(handle, transposed_a, transposed_b, m, n, k, alpha, a, a_type, a_step, b, b_type, b_step, beta, c, c_type,
                c_step, compute, algorithm);
}
