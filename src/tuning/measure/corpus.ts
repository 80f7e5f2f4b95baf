/** Texts to measure with, made by a seeded generator: no licence to care for, the same on every machine. Sixteen
 * subjects, so that texts have near and far neighbours; lengths as real traffic has them. */
import { type Random, createRandom } from './random.ts'

/** Nouns, what they do, and with what: one subject a row. */
const subjects: readonly { who: string; does: string; what: string }[] = [
  {
    who: 'the database,an index,the query planner,a replica,the transaction log',
    does: 'scans,locks,merges,replicates,compacts',
    what: 'a table of orders,its pages,the oldest rows,a sorted run,the primary key',
  },
  {
    who: 'the patient,a nurse,the surgeon,this antibiotic,the trial',
    does: 'treats,reduces,reports,prevents,worsens',
    what: 'a fever,the infection,chronic pain,blood pressure,side effects',
  },
  {
    who: 'the defendant,a judge,the contract,the appeal,a witness',
    does: 'denies,confirms,overturns,cites,dismisses',
    what: 'the claim,a breach of duty,the verdict,an earlier ruling,the damages',
  },
  {
    who: 'the striker,a goalkeeper,the home team,the referee,their captain',
    does: 'scores,misses,defends,wins,protests against',
    what: 'a penalty,the second half,the league title,a free kick,the final whistle',
  },
  {
    who: 'a chef,the dough,this sauce,the oven,grandmother',
    does: 'kneads,simmers,seasons,bakes,serves',
    what: 'fresh bread,onions and garlic,a lemon tart,roasted vegetables,the soup',
  },
  {
    who: 'a telescope,the comet,this galaxy,the orbiter,a red dwarf',
    does: 'orbits,observes,emits,approaches,reveals',
    what: 'a distant star,faint radio waves,the outer planets,cosmic dust,its moon',
  },
  {
    who: 'the central bank,an investor,the bond market,inflation,the auditor',
    does: 'raises,sells,hedges,values,warns of',
    what: 'interest rates,government bonds,currency risk,quarterly earnings,the deficit',
  },
  {
    who: 'the gardener,a rose,the orchard,heavy rain,the compost',
    does: 'waters,prunes,feeds,shades,ruins',
    what: 'the tomatoes,young trees,the flower bed,last autumn,the dry soil',
  },
  {
    who: 'the compiler,a function,the type checker,this thread,the garbage collector',
    does: 'inlines,allocates,rejects,calls,frees',
    what: 'a closure,the call stack,unused memory,a null pointer,generic code',
  },
  {
    who: 'the violinist,an orchestra,the composer,this melody,the choir',
    does: 'plays,repeats,rehearses,conducts,harmonises',
    what: 'a slow movement,the overture,a minor chord,the opening theme,an encore',
  },
  {
    who: 'the pilot,a delayed flight,the airline,the control tower,ground staff',
    does: 'lands,cancels,boards,reroutes,announces',
    what: 'two hundred passengers,the morning flight,the runway,lost luggage,a storm warning',
  },
  {
    who: 'a teacher,the pupil,the exam board,our school,a textbook',
    does: 'explains,grades,revises,studies,forgets',
    what: 'fractions,the homework,a foreign language,the history lesson,next week',
  },
  {
    who: 'the turbine,a solar panel,the power grid,this battery,the engineer',
    does: 'stores,generates,balances,measures,loses',
    what: 'electric power,peak demand,heat,the evening load,ten megawatts',
  },
  {
    who: 'the king,a peasant revolt,the treaty,this empire,the chronicler',
    does: 'conquers,taxes,ends,records,divides',
    what: 'the northern provinces,a long war,the grain harvest,the old dynasty,its borders',
  },
  {
    who: 'a customer,the support agent,the invoice,our online shop,the courier',
    does: 'returns,refunds,delivers,complains about,orders',
    what: 'a broken kettle,the wrong size,two parcels,a password reset,the late delivery',
  },
  {
    who: 'the whale,a flock of geese,the coral reef,this fungus,the ranger',
    does: 'migrates past,hunts,shelters,counts,digests',
    what: 'small fish,the warm current,fallen leaves,a rare species,the breeding ground',
  },
]
const openings = [
  '',
  'In the morning ',
  'As expected, ',
  'After years of work ',
  'Nobody knows why ',
  'Again ',
]
const endings = [
  '',
  ' without delay',
  ', which surprised everyone',
  ' for the third time this year',
  ', and that is why it matters',
  ' although the numbers say otherwise',
]

/** @param sentences how many the text has */
function makeText(random: Random, sentences: number): string {
  const subject = random.pick(subjects)
  const pick = (words: string): string => random.pick(words.split(','))
  return Array.from({ length: sentences }, () => {
    const { who, does, what } = subject
    const sentence = `${random.pick(openings)}${pick(who)} ${pick(does)} ${pick(what)}${random.pick(endings)}.`
    return sentence[0]!.toUpperCase() + sentence.slice(1)
  }).join(' ')
}

/** Texts of the lengths of real traffic: log-normal around four sentences, 1 to 20. */
export function makeCorpus(count: number, seed: number): string[] {
  const random = createRandom(seed)
  return Array.from({ length: count }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next())
    return makeText(random, Math.min(20, Math.max(1, Math.round(4 * Math.exp(0.8 * normal)))))
  })
}
