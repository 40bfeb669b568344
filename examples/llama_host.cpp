// A host for the GGUF of a T5 in llama.cpp: greedy decoding.
//
// usage: llama_host MODEL.gguf TEXT
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "llama.h"

static const int LONGEST = 64;
// What SentencePiece has for a space.
static const std::string SPACE = "\u2581";

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: llama_host MODEL.gguf TEXT\n");
        return 2;
    }
    llama_log_set([](ggml_log_level level, const char *text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
    }, nullptr);
    std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
        llama_model_load_from_file(argv[1], llama_model_default_params()), llama_model_free);
    if (!model) return 1;
    std::unique_ptr<llama_context, decltype(&llama_free)> context(
        llama_init_from_model(model.get(), llama_context_default_params()), llama_free);
    if (!context) return 1;
    const llama_vocab *vocab = llama_model_get_vocab(model.get());

    // As many ids as bytes, and the end of the source.
    std::vector<llama_token> source(strlen(argv[2]) + 2);
    int length = llama_tokenize(vocab, argv[2], strlen(argv[2]), source.data(), source.size(), true, false);
    if (length < 0 || llama_encode(context.get(), llama_batch_get_one(source.data(), length))) return 1;

    std::string answer;
    llama_token token = llama_model_decoder_start_token(model.get());
    for (int i = 0; i < LONGEST; i++) {
        if (llama_decode(context.get(), llama_batch_get_one(&token, 1))) return 1;
        const float *logits = llama_get_logits_ith(context.get(), -1);
        token = std::max_element(logits, logits + llama_vocab_n_tokens(vocab)) - logits;
        if (llama_vocab_is_eog(vocab, token)) break;
        char piece[64];
        int bytes = llama_token_to_piece(vocab, token, piece, sizeof piece, 0, false);
        answer.append(piece, std::max(bytes, 0));
    }
    for (size_t at; (at = answer.find(SPACE)) != std::string::npos;) answer.replace(at, SPACE.size(), " ");
    puts(answer.c_str() + (answer.rfind(" ", 0) == 0));
}
