// Fibers, their turns, and launches. A block runs on one OS thread from beginning to end; its CUDA threads are fibers that
// run until they wait. A warp runs as far as it can before the next one starts, in an order that the schedule sets: that is
// what makes a missing barrier show, since a whole warp is then ahead of the others.
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "shim.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define FIBER_SANITIZER 1
#endif

#if !defined(__x86_64__) || defined(NEARKIN_UCONTEXT)
#include <ucontext.h>
#define FIBER_UCONTEXT 1
#endif

namespace emulator {

constinit thread_local Fiber* current = nullptr;

namespace {

const size_t STACK_BYTES = 256 << 10;
const uint32_t MOST_THREADS = 1024;

enum Schedule : int { FORWARD = 0, REVERSE = 1, RANDOM = 2 };

#ifndef FIBER_UCONTEXT
// Saves the registers that a call must keep, and the stack; goes on where the other stack was left.
extern "C" void nearkin_emulator_switch(void** from, void* to);
asm(R"(
.text
.type nearkin_emulator_switch, @function
nearkin_emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size nearkin_emulator_switch, .-nearkin_emulator_switch
)");
#endif

// Who runs fibers on one OS thread.
struct Machine {
    unsigned char* stacks;
    std::vector<Fiber> fibers{MOST_THREADS};
    std::vector<Payload> seen{MOST_THREADS};
    void* own_stack = nullptr;
#ifdef FIBER_UCONTEXT
    ucontext_t own_context;
    std::vector<ucontext_t> contexts{MOST_THREADS};
#endif
#ifdef FIBER_SANITIZER
    const void* own_bottom = nullptr;
    size_t own_size = 0;
#endif
    uint64_t random = 0;
    int schedule = FORWARD;
    void (*kernel)(void**) = nullptr;
    void** params = nullptr;

    Machine() {
        const size_t n_bytes = STACK_BYTES * MOST_THREADS;
        void* at = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) abort();
        stacks = static_cast<unsigned char*>(at);
        // The lowest page of every stack stops one that grows into its neighbor.
        for (uint32_t i = 0; i < MOST_THREADS; ++i) mprotect(stacks + i * STACK_BYTES, 4096, PROT_NONE);
    }
    Machine(const Machine&) = delete;
    ~Machine() { munmap(stacks, STACK_BYTES * MOST_THREADS); }

    uint64_t next() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        return random;
    }
    // The order in which n of a kind take turns.
    void order(uint32_t* slots, uint32_t n) {
        for (uint32_t i = 0; i < n; ++i) slots[i] = schedule == REVERSE ? n - 1 - i : i;
        if (schedule != RANDOM) return;
        for (uint32_t i = n; i > 1; --i) std::swap(slots[i - 1], slots[next() % i]);
    }

    void start(uint32_t i);
    void run(Fiber& fiber);
    bool release_warp(Fiber* warp, uint32_t n);
    bool step(uint32_t warp, uint32_t n_threads);
    bool release_block(uint32_t n_threads, std::string& error);
    std::string run_block(Block& block);
};

thread_local Machine* machine = nullptr;

void leave() {
    Fiber* self = current;
#ifdef FIBER_SANITIZER
    void* fake = nullptr;
    const bool is_last = self->state == State::Done;
    __sanitizer_start_switch_fiber(is_last ? nullptr : &fake, machine->own_bottom, machine->own_size);
#endif
#ifdef FIBER_UCONTEXT
    swapcontext(&machine->contexts[self - machine->fibers.data()], &machine->own_context);
#else
    nearkin_emulator_switch(&self->stack_pointer, machine->own_stack);
#endif
#ifdef FIBER_SANITIZER
    __sanitizer_finish_switch_fiber(fake, &machine->own_bottom, &machine->own_size);
#endif
}

void fiber_main() {
#ifdef FIBER_SANITIZER
    __sanitizer_finish_switch_fiber(nullptr, &machine->own_bottom, &machine->own_size);
#endif
    machine->kernel(machine->params);
    current->state = State::Done;
    leave();
    abort();
}

void Machine::start(uint32_t i) {
    unsigned char* bottom = stacks + i * STACK_BYTES;
#ifdef FIBER_SANITIZER
    // A fiber that a failed block left behind may have poisoned its frames.
    __asan_unpoison_memory_region(bottom + 4096, STACK_BYTES - 4096);
#endif
#ifdef FIBER_UCONTEXT
    getcontext(&contexts[i]);
    contexts[i].uc_stack.ss_sp = bottom + 4096;
    contexts[i].uc_stack.ss_size = STACK_BYTES - 4096;
    contexts[i].uc_link = nullptr;
    makecontext(&contexts[i], fiber_main, 0);
#else
    void** top = reinterpret_cast<void**>(bottom + STACK_BYTES);
    *--top = nullptr;  // where fiber_main would return to; also aligns its frame
    *--top = reinterpret_cast<void*>(&fiber_main);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    fibers[i].stack_pointer = top;
#endif
}

void Machine::run(Fiber& fiber) {
    current = &fiber;
#ifdef FIBER_SANITIZER
    void* fake = nullptr;
    const size_t i = &fiber - fibers.data();
    __sanitizer_start_switch_fiber(&fake, stacks + i * STACK_BYTES + 4096, STACK_BYTES - 4096);
#endif
#ifdef FIBER_UCONTEXT
    swapcontext(&own_context, &contexts[&fiber - fibers.data()]);
#else
    nearkin_emulator_switch(&own_stack, fiber.stack_pointer);
#endif
#ifdef FIBER_SANITIZER
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    current = nullptr;
}

// Lets the lanes go on that wait for one another and are all there. Lanes that have ended count as there.
bool Machine::release_warp(Fiber* warp, uint32_t n) {
    bool any = false;
    for (uint32_t lane = 0; lane < n; ++lane) {
        if (warp[lane].state != State::AtWarp) continue;
        const uint32_t mask = warp[lane].mask;
        bool all = true;
        for (uint32_t other = 0; other < n; ++other) {
            const bool is_there = warp[other].state == State::Done ||
                                  (warp[other].state == State::AtWarp && warp[other].mask == mask);
            all &= !(mask >> other & 1) || is_there;
        }
        if (!all) continue;
        for (uint32_t other = 0; other < 32; ++other) {
            if (!(mask >> other & 1)) continue;
            const bool waits = other < n && warp[other].state == State::AtWarp;
            warp[lane].seen[other] = waits ? warp[other].given : Payload{};
            if (waits) warp[other].state = State::Ready;
        }
        any = true;
    }
    return any;
}

// Runs every lane of a warp that can run, once. Whether anything happened.
bool Machine::step(uint32_t warp, uint32_t n_threads) {
    const uint32_t first = warp * 32, n = n_threads - first < 32 ? n_threads - first : 32;
    uint32_t lanes[32];
    order(lanes, n);
    bool any = false;
    for (uint32_t i = 0; i < n; ++i) {
        Fiber& fiber = fibers[first + lanes[i]];
        if (fiber.state != State::Ready) continue;
        run(fiber);
        any = true;
    }
    return release_warp(&fibers[first], n) || any;
}

// Lets the block go on if all of it waits at one barrier; says so if that cannot happen any more.
bool Machine::release_block(uint32_t n_threads, std::string& error) {
    uint32_t waiting = 0, done = 0, at_warp = 0, sum = 0;
    int least = 0x7fffffff, most = 0;
    for (uint32_t i = 0; i < n_threads; ++i) {
        const Fiber& fiber = fibers[i];
        done += fiber.state == State::Done;
        at_warp += fiber.state == State::AtWarp;
        if (fiber.state != State::AtBlock) continue;
        ++waiting;
        sum += fiber.line_predicate != 0;
        least = fiber.line < least ? fiber.line : least;
        most = fiber.line > most ? fiber.line : most;
    }
    if (done == n_threads) return false;
    if (waiting == n_threads && least == most) {
        for (uint32_t i = 0; i < n_threads; ++i) {
            fibers[i].result = sum;
            fibers[i].state = State::Ready;
        }
        return true;
    }
    error = "divergent barrier: of " + std::to_string(n_threads) + " threads " + std::to_string(waiting) +
            " wait at a block barrier, " + std::to_string(at_warp) + " at a warp barrier, " + std::to_string(done) +
            " have ended";
    if (waiting > 0) error += "; barriers from line " + std::to_string(least) + " to line " + std::to_string(most);
    return false;
}

std::string Machine::run_block(Block& block) {
    const uint32_t n = block.size.x * block.size.y * block.size.z, n_warps = (n + 31) / 32;
    for (uint32_t i = 0; i < n; ++i) {
        Fiber& fiber = fibers[i];
        fiber.thread = dim3{i % block.size.x, i / block.size.x % block.size.y, i / block.size.x / block.size.y};
        fiber.lane = i % 32;
        fiber.state = State::Ready;
        fiber.seen = &seen[i / 32 * 32];
        fiber.block = &block;
        fiber.copies.clear();
        fiber.n_groups = 0;
        start(i);
    }
    std::vector<uint32_t> warps(n_warps);
    std::string error;
    for (bool runs = true; runs;) {
        order(warps.data(), n_warps);
        for (const uint32_t warp : warps)
            while (step(warp, n)) {
            }
        runs = release_block(n, error);
    }
    return error;
}

struct Entry {
    uint32_t n_threads;
    Thunk thunk;
};

std::map<std::string, Entry>& entries() {
    static std::map<std::string, Entry> all;
    return all;
}

struct Launch {
    Thunk thunk;
    void** params;
    dim3 grid, size;
    uint32_t shared_bytes;
    int schedule;
    uint64_t seed;
    std::atomic<uint64_t> next_block{0};
    std::mutex lock;
    std::string error;

    void work() {
        static thread_local std::unique_ptr<Machine> own;
        if (!own) own.reset(new Machine);
        machine = own.get();
        own->kernel = thunk;
        own->params = params;
        own->schedule = schedule;
        std::unique_ptr<unsigned char, void (*)(void*)> dynamic(nullptr, free);
        if (shared_bytes > 0) dynamic.reset(static_cast<unsigned char*>(aligned_alloc(16, (shared_bytes + 15) / 16 * 16)));
        const uint64_t n_blocks = uint64_t(grid.x) * grid.y * grid.z;
        for (uint64_t i = next_block++; i < n_blocks; i = next_block++) {
            const uint64_t at = schedule == REVERSE ? n_blocks - 1 - i : i;
            own->random = (seed + at + 1) * 0x9e3779b97f4a7c15u | 1;
            // Shared memory holds whatever was there before.
            if (shared_bytes > 0) memset(dynamic.get(), 0xcd, shared_bytes);
            Block block = {};
            block.index = dim3{uint32_t(at % grid.x), uint32_t(at / grid.x % grid.y), uint32_t(at / grid.x / grid.y)};
            block.size = size;
            block.grid = grid;
            block.dynamic = dynamic.get();
            const std::string failed = own->run_block(block);
            if (failed.empty()) continue;
            const std::lock_guard<std::mutex> guard(lock);
            if (error.empty()) error = "block " + std::to_string(at) + ": " + failed;
            next_block = n_blocks;
        }
        machine = nullptr;
    }
};

}  // namespace

const Payload* meet(uint32_t mask, const Payload& given) {
    current->given = given;
    current->mask = mask | 1u << current->lane;
    current->state = State::AtWarp;
    leave();
    return current->seen;
}

uint32_t meet_block(int predicate, int line) {
    current->line = line;
    current->line_predicate = predicate;
    current->state = State::AtBlock;
    leave();
    return current->result;
}

void begin_copy(void* to, const void* from, size_t n_bytes) {
    if (machine->schedule == RANDOM && machine->next() % 2 == 0) {
        memcpy(to, from, n_bytes);
        return;
    }
    current->copies.push_back(Copy{to, from, n_bytes, current->n_groups});
}

void wait_copies(uint64_t n_prior) {
    Fiber* self = current;
    while (!self->copies.empty() && self->copies.front().group + n_prior < self->n_groups) {
        const Copy copy = self->copies.front();
        memcpy(copy.to, copy.from, copy.n_bytes);
        self->copies.pop_front();
    }
}

Registration::Registration(const char* name, uint32_t n_threads, Thunk thunk) { entries()[name] = Entry{n_threads, thunk}; }

}  // namespace emulator

using namespace emulator;

// 0, or 1 with the reason in `message`.
extern "C" int nearkin_emulator_launch(const char* name, const uint32_t* grid, const uint32_t* size, uint32_t shared_bytes,
                                       void** params, int schedule, uint64_t seed, uint32_t n_threads, char* message,
                                       size_t message_bytes) {
    const auto say = [&](const std::string& text) {
        strncpy(message, text.c_str(), message_bytes - 1);
        message[message_bytes - 1] = 0;
        return 1;
    };
    const auto found = entries().find(name);
    if (found == entries().end()) return say(std::string("no kernel ") + name);
    const uint64_t n = uint64_t(size[0]) * size[1] * size[2];
    if (n != found->second.n_threads)
        return say(std::string(name) + ": " + std::to_string(n) + " threads, built for " +
                   std::to_string(found->second.n_threads));
    Launch launch{found->second.thunk, params, dim3{grid[0], grid[1], grid[2]}, dim3{size[0], size[1], size[2]},
                  shared_bytes, schedule, seed, {0}, {}, {}};
#ifdef FIBER_SANITIZER
    static std::mutex turns;
    const std::lock_guard<std::mutex> turn(turns);
    n_threads = 1;
#endif
    std::vector<std::thread> others;
    for (uint32_t i = 1; i < n_threads; ++i) others.emplace_back([&] { launch.work(); });
    launch.work();
    for (std::thread& other : others) other.join();
    return launch.error.empty() ? 0 : say(std::string(name) + ": " + launch.error);
}

// The first `n_used` of `n_bytes` bytes may be touched from now on, the others not; only the address sanitizer watches.
extern "C" void nearkin_emulator_lend(void* at, size_t n_used, size_t n_bytes) {
#ifdef FIBER_SANITIZER
    __asan_unpoison_memory_region(at, n_bytes);
    __asan_poison_memory_region(static_cast<unsigned char*>(at) + n_used, n_bytes - n_used);
#else
    (void)at, (void)n_used, (void)n_bytes;
#endif
}

// The names of all kernels, one a line; returns their bytes.
extern "C" size_t nearkin_emulator_names(char* out, size_t n_bytes) {
    std::string all;
    for (const auto& entry : entries()) all += entry.first + "\n";
    if (out) memcpy(out, all.data(), all.size() < n_bytes ? all.size() : n_bytes);
    return all.size();
}
