from tests.bench import targets


def figures(**changed):
    found = {
        "W1": {"raw": [0.06, 0.05, 0.07], "durable": [0.13], "ours": [0.045, 0.03, 0.2]},
        "W2": {"raw": [1000.0], "durable": [500.0], "ours": [3000.0]},
        "W3": {"raw": [268.0], "durable": [137.0], "ours": [402.0]},
        "W4": {"raw": [2.7], "durable": [6.0], "ours": [4.5]},
        "W4 p99": {"ours": [49.0]},
        "API": {"ours": [99.0]},
        "API run": {"ours": [24.0]},
    }
    return found | changed


def missed(**changed):
    return [v.target.measure for v in targets.verdicts(figures(**changed)) if not v.kept]


def test_verdicts__every_target_at_its_bound_is_kept():
    found = targets.verdicts(figures())
    assert [verdict.target.measure for verdict in found] == [t.measure for t in targets.TARGETS]
    assert missed() == []


def test_verdicts__a_shorter_time_is_better():
    assert missed(W1={"raw": [0.06], "ours": [0.046]}) == ["W1"]


def test_verdicts__a_higher_rate_is_better():
    assert missed(W2={"raw": [1000.0], "ours": [2990.0]}) == ["W2"]
    assert missed(W3={"raw": [268.0], "ours": [401.0]}) == ["W3"]


def test_verdicts__the_start_is_held_against_f_and_not_r():
    assert missed(W4={"raw": [99.0], "durable": [6.0], "ours": [4.6]}) == ["W4"]
    assert missed(W4={"raw": [0.1], "durable": [6.0], "ours": [4.5]}) == []


def test_verdicts__bounds_in_milliseconds_need_no_baseline():
    assert missed(**{"W4 p99": {"ours": [50.1]}}) == ["W4 p99"]
    assert missed(API={"ours": [101.0]}) == ["API"]
    assert missed(**{"API run": {"ours": [25.1]}}) == ["API run"]


def test_verdicts__a_request_that_was_refused_misses():
    assert missed(API={"ours": [float("inf")]}) == ["API"]


def test_verdicts__what_was_not_measured_is_not_judged():
    found = targets.verdicts({"W1": {"raw": [0.06], "ours": [0.01]}, "W2": {"ours": [9.0]}})
    assert [verdict.target.measure for verdict in found] == ["W1"]


def test_verdicts__medians_are_compared_and_not_means():
    assert targets.ratio(figures(), "W1", "raw") == 0.045 / 0.06


def test_sentence__a_missed_target_says_by_how_much():
    (verdict,) = targets.verdicts({"W2": {"raw": [1000.0], "ours": [2500.0]}})
    assert verdict.sentence == "MISSED  W2 1,000 + join: 2.50 x R, target >= 3 x R"


def void(found, *, processors=2, **foreign):
    return targets.reasons_void(found, processors=processors, foreign=foreign)


def test_void__a_slow_baseline_proves_nothing():
    assert void(figures()) == []
    (reason,) = void(figures(W3={"raw": [210.0], "ours": [400.0]}))
    assert reason == "W3: R reached 210 runs/s, 22% below its 268 on such a machine"
    assert len(void(figures(W1={"raw": [0.08], "ours": [0.03]}))) == 1


def test_void__nor_does_a_slow_f():
    (reason,) = void(figures(W4={"raw": [2.7], "durable": [9.0], "ours": [4.5]}))
    assert reason == "W4: F reached 9.00 ms, 33% below its 6 on such a machine"


def test_void__within_a_fifth_of_the_floor_is_good():
    assert void(figures(W3={"raw": [215.0], "ours": [400.0]})) == []
    assert void(figures(W1={"raw": [0.074], "ours": [0.03]})) == []


def test_void__another_kind_of_machine_has_no_floor():
    assert void(figures(W3={"raw": [100.0], "ours": [400.0]}), processors=4) == []


def test_void__not_when_others_had_the_machine_once():
    assert void(figures(), W2=[0.01, 0.5, 0.02]) == []
    assert void(figures(), W2=[0.2, 0.5, 0.02]) == ["W2: others used 20% of the machine meanwhile"]


def test_percentile__is_one_of_the_samples():
    samples = [float(number) for number in range(1, 101)]
    assert targets.percentile(samples, 0.5) == 50
    assert targets.percentile(samples, 0.95) == 95
    assert targets.percentile(samples, 0.99) == 99
    assert targets.percentile([7.0], 0.99) == 7
