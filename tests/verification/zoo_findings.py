# ruff: noqa: E501 (a table)
"""Findings of the zoo: name, dissipativity, turnpike, depth (letters as in `zoo`), diagnosis.

dissipativity  alpha, trajectory, sampled, certified; or the last three alone
turnpike       tubes 1/8, 1/4, 1/2; misclassified; levels 1/8, 1/2; one_file; leaving; rate
depth          used, idled, cropped, logits, flips
"""

FINDINGS = {
    name: (dissipativity, turnpike, depth, tuple(diagnosis.split()))
    for name, dissipativity, turnpike, depth, diagnosis in (
        line.split(maxsplit=4)
        for line in """
a_minimum                                      TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_of_heun                              TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_of_rk4                               TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_of_the_double_block                  TTT-     VVVTVVOnn  OTTOT  depth_too_small
a_minimum_with_softsign                        TTT-     VVVVVVOOn  OTTOT  depth_too_small laggards
a_minimum_with_gelu                            TTT-     VVVTVVOnn  OTTOT  depth_too_small
a_minimum_with_silu                            TTT-     VVVTVVOnn  OTTOT  depth_too_small
a_minimum_with_shifted_softplus                TTT-     VVVTVVOnn  OTTOT  depth_too_small
a_minimum_with_shifted_sigmoid                 TTT-     VVVVVVOOn  OTTOT  laggards
a_minimum_of_linear_layers                     TTT-     VVVVVVOOn  OTTOT  r_too_large laggards
a_minimum_with_a_trained_readout               TTT-     VVVVVVOnn  OTTOT  depth_too_small
a_minimum_with_trained_ends                    TTT-     VVVVVVOOn  OTnOT  r_too_large
a_minimum_of_standard_training                 nnn      nOnn       OTTOT  depth_too_small laggards
a_minimum_with_three_classes                   TTT-     VVVTVTOOn  OTTOT  none
a_minimum_with_a_biased_scaled_readout         TTT-     VVVVVVOnn  OTTOT  depth_too_small
a_minimum_with_hard_labels                     nnn      nVVVOnn    OTTOT  p_d_near_one depth_too_small laggards
a_minimum_behind_a_rank_deficient_readout      TTT-     VVVVVTOnn  OTTOT  depth_too_small laggards
a_minimum_on_contradicting_labels              TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_with_an_idle_weight_moved_by_1e_6    TTT-     VVVTVVOnO  OTTOT  depth_too_small
a_minimum_with_least_eigenvalue_1e_6           TTT-     VVVVVVOOn  OTTOT  unused_coordinate depth_too_small laggards
a_minimum_that_claims_nothing                  TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_with_inputs_in_single_precision      TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_with_unshifted_softplus              nnn      nn         OnTOT  depth_too_small
a_saddle_in_an_unused_coordinate               TTT-     VVVVVVOnn  OTTOT  unused_coordinate depth_too_small laggards
a_saddle_with_least_eigenvalue_minus_1e_6      TTT-     VVVVVVOOn  OTTOT  unused_coordinate depth_too_small laggards
the_zero_of_a_double_block                     TTT-     VVVVVVOOn  OTnOT  r_too_large b_zero zero_layers laggards
a_saddle_with_softsign_kinks                   TTT-     VVVVVVOOn  OTTOT  unused_coordinate depth_too_small laggards
a_minimum_without_control_cost                 TTT-     VVVTVVOnn  OTTOT  r_zero saturated depth_too_small
a_trained_readout_without_cost                 TTT-     VVVVVVOnn  OTTOT  depth_too_small
a_double_block_of_linear_layers                TTT-     VVVVVVOOn  OTTOT  r_too_large laggards
a_minimum_on_kinks_of_softsign                 TTT-     VVVVVVOOn  OTTOT  unused_coordinate laggards
a_minimum_on_kinks_of_relu                     TTT-     VVVVVVOOn  OTnOT  r_too_large laggards
a_readout_of_doubtful_rank                     nnn      nVVVOnn    OTTOT  laggards
descent_stuck_on_kinks_of_relu                 TTT-     VVVVVVOnn  OTTOT  kinks depth_too_small
descent_stuck_on_kinks_of_leaky_relu           TTT-     VVVVVVOnn  OTTOT  kinks depth_too_small
zero_on_circles                                TTT-     VVVVVVOOn  OTnOT  r_too_large b_zero not_converged laggards
random_controls                                TTT-     VVVVVVOOn  OTTOT  not_converged laggards
near_zero_controls                             TTT-     VVVVVVOOn  OTnOT  r_too_large not_converged laggards
a_minimum_with_a_weight_moved_by_1e_5          TTT-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
training_stopped_at_1e_6                       TTT-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
a_minimum_in_single_precision                  TTT-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
two_labels_swapped                             TTT-     VVVVVVOOn  OTTOT  not_converged depth_too_small laggards
p_d_edited                                     TTT-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
r_edited                                       TTT-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
gamma_edited                                   TTT-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
scheme_edited                                  TTT-     VVVVVVOOn  OTTOT  not_converged depth_too_small laggards
objective_edited                               TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
objective_no_number                            TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
gradient_norm_claimed_small                    TTT-     VVVVVVOOn  OTTOT  not_converged laggards
hash_edited                                    TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
costate_of_the_wrong_sign                      TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
costate_wrong_in_one_entry                     TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
costate_of_another_network                     TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
states_that_overflow                           nnn      nn         n      b_zero not_finite
tiny_weights_and_random_controls               nnn      nOOn       OTTOT  depth_too_small laggards
a_minimum_with_tiny_weights                    nnn      nOOn       OTTOT  depth_too_small laggards
nearly_uniform_targets                         TTT-     VVVVVVOOn  OTTOT  p_d_near_uniform not_converged depth_too_small
uniform_targets_but_for_the_last_bit           TTT-     VVVVVVOOn  OTTOT  p_d_near_uniform not_converged depth_too_small
stored_objective_null                          TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
stored_gradient_norm_true                      TTT-     VVVVVVOnn  OTTOT  depth_too_small laggards
""".strip().splitlines()
    )
}
