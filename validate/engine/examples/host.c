/* Greedy decoding of one source: host MODEL.gguf START END ID..., with the tokens that start and end a target. */
#include <stdio.h>
#include <stdlib.h>

#include "trefoil_engine.h"

#define MOST_TOKENS 64

int main(int argc, char **argv) {
    char error[1000] = "";
    if (argc < 5) {
        fprintf(stderr, "usage: host MODEL.gguf START END ID...\n");
        return 2;
    }
    size_t shape[2] = {1, (size_t)argc - 4};
    int64_t *ids = calloc(shape[1], sizeof *ids), *mask = calloc(shape[1], sizeof *mask);
    for (size_t i = 0; i < shape[1]; i++) {
        ids[i] = atoll(argv[4 + i]);
        mask[i] = 1;
    }
    trefoil_engine *engine = trefoil_open(argv[1], NULL, error, sizeof error);
    trefoil_session *session = trefoil_session_new(engine);
    size_t vocabulary = trefoil_vocabulary(engine);
    float *logits = calloc(vocabulary + 1, sizeof *logits);
    trefoil_tensor inputs[] = {{"input_ids", shape, 2, NULL, ids}, {"attention_mask", shape, 2, NULL, mask}};
    int failed = !engine || trefoil_encode(session, inputs, 2, error, sizeof error);
    int64_t next = atoll(argv[2]), end = atoll(argv[3]);
    for (int i = 0; i < MOST_TOKENS && !failed; i++) {
        failed = trefoil_step(session, &next, 1, logits, vocabulary, error, sizeof error);
        next = 0;
        for (size_t id = 1; id < vocabulary; id++)
            if (logits[id] > logits[next]) next = (int64_t)id;
        if (failed || next == end) break;
        printf(i ? " %lld" : "%lld", (long long)next);
    }
    puts("");
    if (failed) fprintf(stderr, "%s\n", error);
    trefoil_session_free(session);
    trefoil_close(engine);
    free(ids), free(mask), free(logits);
    return failed;
}
