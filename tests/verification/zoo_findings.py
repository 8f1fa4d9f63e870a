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
a_minimum                                      TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_of_heun                              TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_of_rk4                               TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_of_the_double_block                  TTO-     VVVTVVOnn  OTTOT  depth_too_small
a_minimum_with_softsign                        TTO-     VVVVVVOOn  OTTOT  depth_too_small laggards
a_minimum_with_gelu                            TTO-     VVVTVVOnn  OTTOT  depth_too_small
a_minimum_with_silu                            TTO-     VVVTVVOnn  OTTOT  depth_too_small
a_minimum_with_shifted_softplus                TTO-     VVVTVVOnn  OTTOT  depth_too_small
a_minimum_with_shifted_sigmoid                 TTO-     VVVVVVOOn  OTTOT  laggards
a_minimum_of_linear_layers                     TTO-     VVVVVVOOn  OTTOT  r_too_large laggards
a_minimum_with_a_trained_readout               TTO-     VVVVVVOnn  OTTOT  depth_too_small
a_minimum_with_trained_ends                    TTO-     VVVVVVOOn  OTnOT  r_too_large
a_minimum_of_standard_training                 nnn      nOnn       OTTOT  depth_too_small laggards
a_minimum_with_three_classes                   TTO-     VVVTVTOOn  OTTOT  none
a_minimum_with_a_biased_scaled_readout         TTO-     VVVVVVOnn  OTTOT  depth_too_small
a_minimum_with_hard_labels                     nnn      nVVVOnn    OTTOT  p_d_near_one depth_too_small laggards
a_minimum_behind_a_rank_deficient_readout      OOO-     VVVVVOOnn  OTTOT  depth_too_small laggards
a_minimum_on_contradicting_labels              TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_with_an_idle_weight_moved_by_1e_6    TTO-     VVVTVVOnO  OTTOT  depth_too_small
a_minimum_with_least_eigenvalue_1e_6           TTO-     VVVVVVOOn  OTTOT  unused_coordinate depth_too_small laggards
a_minimum_that_claims_nothing                  TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_with_inputs_in_single_precision      TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
a_minimum_with_unshifted_softplus              nnn      nn         OnTOT  depth_too_small
a_saddle_in_an_unused_coordinate               TTO-     VVVVVVOnn  OTTOT  unused_coordinate depth_too_small laggards
a_saddle_with_least_eigenvalue_minus_1e_6      TTO-     VVVVVVOOn  OTTOT  unused_coordinate depth_too_small laggards
the_zero_of_a_double_block                     TTO-     VVVVVVOOn  OTnOT  r_too_large b_zero zero_layers laggards
a_saddle_with_softsign_kinks                   TTO-     VVVVVVOOn  OTTOT  unused_coordinate depth_too_small laggards
a_minimum_without_control_cost                 TTO-     VVVTVVOnn  OTTOT  r_zero saturated depth_too_small
a_trained_readout_without_cost                 TTO-     VVVVVVOnn  OTTOT  depth_too_small
a_double_block_of_linear_layers                TTO-     VVVVVVOOn  OTTOT  r_too_large laggards
a_minimum_on_kinks_of_softsign                 TTO-     VVVVVVOOn  OTTOT  unused_coordinate laggards
a_minimum_on_kinks_of_relu                     TTO-     VVVVVVOOn  OTnOT  r_too_large laggards
a_readout_of_doubtful_rank                     nnn      nVVVOnn    OTTOT  laggards
descent_stuck_on_kinks_of_relu                 TTO-     VVVVVVOnn  OTTOT  kinks depth_too_small
descent_stuck_on_kinks_of_leaky_relu           TTO-     VVVVVVOnn  OTTOT  kinks depth_too_small
zero_on_circles                                TTO-     VVVVVVOOn  OTnOT  r_too_large b_zero not_converged laggards
random_controls                                TTO-     VVVVVVOOn  OTTOT  not_converged laggards
near_zero_controls                             TTO-     VVVVVVOOn  OTnOT  r_too_large not_converged laggards
a_minimum_with_a_weight_moved_by_1e_5          TTO-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
training_stopped_at_1e_6                       TTO-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
a_minimum_in_single_precision                  TTO-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
two_labels_swapped                             TTO-     VVVVVVOOn  OTTOT  not_converged depth_too_small laggards
p_d_edited                                     TTO-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
r_edited                                       TTO-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
gamma_edited                                   TTO-     VVVVVVOnn  OTTOT  not_converged depth_too_small laggards
scheme_edited                                  TTO-     VVVVVVOOn  OTTOT  not_converged depth_too_small laggards
objective_edited                               TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
objective_no_number                            TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
gradient_norm_claimed_small                    TTO-     VVVVVVOOn  OTTOT  not_converged laggards
hash_edited                                    TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
costate_of_the_wrong_sign                      TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
costate_wrong_in_one_entry                     TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
costate_of_another_network                     TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
states_that_overflow                           nnn      nn         n      b_zero not_finite
tiny_weights_and_random_controls               nnn      nOOn       OTTOT  depth_too_small laggards
a_minimum_with_tiny_weights                    nnn      nOOn       OTTOT  depth_too_small laggards
nearly_uniform_targets                         TTO-     VVVVVVOOn  OTTOT  p_d_near_uniform not_converged depth_too_small
uniform_targets_but_for_the_last_bit           TTO-     VVVVVVOOn  OTTOT  p_d_near_uniform not_converged depth_too_small
stored_objective_null                          TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
stored_gradient_norm_true                      TTO-     VVVVVVOnn  OTTOT  depth_too_small laggards
""".strip().splitlines()
    )
}
